import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { compareImages } from '../../../src/unikernel/compare/images.ts'
import { describeComparison } from '../../../src/unikernel/compare/report.ts'
import { fixtureImage } from '../fixture-image.ts'

const ONE = 'hello-key-1'
const TWO = 'hello-key-2'
const SAME_OUTPUT = 'hello-key-3-freebsd-same-output'
const SAME_INPUT = 'hello-key-4-same-input-different-output'
const read = (path: string) => readFileSync(new URL(`../../fixtures/${path}`, import.meta.url))

describe('pairs of fixture builds', () => {
  it('1 and 2 have other inputs and another output', async () => {
    const found = compareImages(await fixtureImage(ONE), await fixtureImage(TWO))
    expect(found.verdict).toBe('different')
    expect(found.kernel).toMatchObject({ same: false, from: { target: 'hvt', abiVersion: 2 } })
    expect(found.devices).toEqual({ added: [], removed: [] })
    const { packages, roots, vendored } = found.opam ?? {}
    expect(
      packages?.changed.map(({ name, version, direction }) => [
        name,
        version.from,
        version.to,
        direction,
      ]),
    ).toEqual([
      ['conf-pkg-config', '4', '5', 'upgrade'],
      ['dune', '3.23.1', '3.24.2', 'upgrade'],
      ['dune-configurator', '3.23.1', '3.24.2', 'upgrade'],
      ['mirage', '4.11.0', '4.11.2', 'upgrade'],
      // Vendored: the names are those of the graph.
      ['mirage-runtime', '4.11.0', '4.11.2', 'upgrade'],
      ['mtime', '2.1.0', '2.2.0', 'upgrade'],
      ['solo5', '0.10.1', '0.12.1', 'upgrade'],
    ])
    expect(packages).toMatchObject({
      added: [
        { name: 'base-effects', version: null, basis: 'unknown' },
        { name: 'ocaml-compiler', version: '5.3.0', basis: 'inferred' },
      ],
      removed: [],
    })
    expect(roots).toEqual({ added: [], removed: [], changed: [] })
    expect(vendored?.added.length).toBe(1)
    // The repository had more checksums of bigstringaf by then, of the same archive.
    expect(vendored?.changed.map(({ directory }) => directory)).not.toContain('bigstringaf')
    expect(found.replacedSources).toEqual([])
    const host = found.systemPackages
    expect(host?.changed.map(({ name, direction }) => [name, direction])).toEqual([
      ['bash', 'upgrade'],
      ['binutils', 'upgrade'],
    ])
    expect(host?.added.map(({ name }) => name)).toEqual(['libseccomp-dev'])
    expect(host?.removed).toEqual([])
  })

  it('compare in both directions', async () => {
    const there = compareImages(await fixtureImage(ONE), await fixtureImage(TWO))
    const back = compareImages(await fixtureImage(TWO), await fixtureImage(ONE))
    expect(back.opam?.packages.changed.map(({ direction }) => direction)).toEqual(
      there.opam?.packages.changed.map(({ direction }) => direction && 'downgrade'),
    )
    expect(back.systemPackages?.removed).toEqual(there.systemPackages?.added)
    expect(back.opam?.vendored.removed).toEqual(there.opam?.vendored.added)
  })

  it('2 and 3 have other inputs and the same output, on other systems', async () => {
    const found = compareImages(await fixtureImage(TWO), await fixtureImage(SAME_OUTPUT))
    expect(found).toMatchObject({ verdict: 'same-output', kernel: { same: true } })
    expect(found.systemPackages?.manager).toEqual({ from: 'dpkg', to: 'pkg' })
    expect(found.buildEnvironment?.changed).toContainEqual({
      name: 'OS',
      value: { from: 'linux', to: 'freebsd' },
    })
  })

  it('2 and 4 have the same inputs and another output', async () => {
    const found = compareImages(await fixtureImage(TWO), await fixtureImage(SAME_INPUT))
    expect(found).toMatchObject({ verdict: 'not-reproducible', kernel: { same: false } })
    expect(found.opam?.packages).toEqual({ added: [], removed: [], changed: [] })
    expect(found.systemPackages).toMatchObject({ added: [], removed: [], changed: [] })
    expect(found.buildEnvironment).toEqual({ added: [], removed: [], changed: [] })
  })

  it('one image is no reproduction of itself', async () => {
    const image = await fixtureImage(ONE)
    const found = compareImages(image, image, true)
    expect(found).toMatchObject({ verdict: 'same-image', kernel: { same: true } })
    expect(describeComparison(found)).toEqual(['the same image on both sides'])
  })

  it('each equals itself', async () => {
    for (const build of [ONE, TWO, SAME_OUTPUT, SAME_INPUT]) {
      const image = await fixtureImage(build)
      expect(compareImages(image, image)).toMatchObject({
        verdict: 'reproduced',
        kernel: { same: true },
        opam: { packages: { changed: [] }, vendored: { changed: [], added: [], removed: [] } },
      })
    }
  })
})

describe('changes without another version', () => {
  const text = read(`builds/${ONE}/opam-switch`).toString()
  it.each([
    [
      'another source',
      text.replace('download/3.23.1/dune-3.23.1.tbz', 'download/evil/dune-3.23.1.tbz'),
      ['url'],
    ],
    [
      'other bytes',
      text.replace(/(dune-3\.23\.1\.tbz"\s+checksum: \[\s+"sha256=)./, '$1f'),
      ['checksums'],
    ],
    ['a pin', text.replace('roots:', 'pinned: ["dune.3.23.1"]\nroots:'), ['pinned']],
  ])('%s of the same version is a change', async (_what, changed, aspects) => {
    expect(changed).not.toBe(text)
    const found = compareImages(
      await fixtureImage(ONE),
      await fixtureImage(ONE, { 'opam-switch': changed }),
    )
    expect(found.opam?.packages.changed[0]).toMatchObject({
      name: 'dune',
      version: { from: '3.23.1', to: '3.23.1' },
      direction: undefined,
      aspects,
      source: expect.anything(),
    })
  })

  it('another URL of a vendored source is a change', async () => {
    const other = text.replace(
      'releases/fmt-0.11.0.tbz"\n      "fmt"',
      'releases/fmt-0.9.9.tbz"\n      "fmt"',
    )
    const found = compareImages(
      await fixtureImage(ONE),
      await fixtureImage(ONE, { 'opam-switch': other }),
    )
    expect(found.opam?.vendored.changed).toMatchObject([
      { directory: 'fmt', url: { to: expect.stringMatching(/0\.9\.9/) } },
    ])
  })
})

it('added and removed devices are changes', async () => {
  const kernel = (name: string) => ({
    kernel: read(`elf/${name}`),
    debug: null,
    'build-hashes': null,
  })
  const found = compareImages(
    await fixtureImage(ONE, kernel('mini-net.hvt')),
    await fixtureImage(ONE, kernel('mini-blk-net2.spt')),
  )
  expect(found.kernel).toMatchObject({ from: { target: 'hvt' }, to: { target: 'spt' } })
  expect(found.devices?.added.length).toBeGreaterThan(0)
  const changed = [...(found.devices?.added ?? []), ...(found.devices?.removed ?? [])]
  expect(changed.map(({ kind }) => kind)).toContain('block')
})

it('parts that one side does not have are not compared', async () => {
  const bare = await fixtureImage(ONE, {
    'opam-switch': null,
    'system-packages': null,
    'build-environment': null,
  })
  const found = compareImages(bare, await fixtureImage(TWO))
  expect(found).toMatchObject({
    verdict: 'unknown',
    opam: undefined,
    systemPackages: undefined,
    buildEnvironment: undefined,
  })
})

it('packages with several versions are compared by all versions', async () => {
  const list = (text: string) => ({ 'system-packages': text })
  const found = compareImages(
    await fixtureImage(ONE, list('a=1\nb:amd64=1\nb:i386=1\nc=1\nc=2\nd=1:1')),
    await fixtureImage(ONE, list('a=2~\nb:amd64=1\nb:i386=2\nc=2\nc=3\nd=2')),
  )
  expect(found.systemPackages?.changed).toEqual([
    { name: 'a', versions: { from: ['1'], to: ['2~'] }, direction: 'upgrade' },
    { name: 'b', architecture: 'i386', versions: { from: ['1'], to: ['2'] }, direction: 'upgrade' },
    { name: 'c', versions: { from: ['1', '2'], to: ['2', '3'] }, direction: undefined },
    { name: 'd', versions: { from: ['1:1'], to: ['2'] }, direction: 'downgrade' },
  ])
})

it('another architecture is a change, also of otherwise equal kernels', async () => {
  const kernel = (name: string) => fixtureImage(ONE, { kernel: read(`elf/${name}`) })
  const found = compareImages(await kernel('mini-net.hvt'), await kernel('mini-arm.hvt'))
  expect(describeComparison(found).join('\n')).toMatch(
    /~ hvt ABI 2 on x86_64 → hvt ABI 2 on aarch64/,
  )
})
