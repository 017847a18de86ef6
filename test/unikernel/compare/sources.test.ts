import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { compareImages } from '../../../src/unikernel/compare/images.ts'
import { describeComparison } from '../../../src/unikernel/compare/report.ts'
import { compareBytes } from '../../../src/unikernel/compare/sources.ts'
import type { OpamSource } from '../../../src/unikernel/opam/package.ts'
import { fixtureImage } from '../fixture-image.ts'

const BUILD = 'hello-key-1'
const switchOf = (build: string) =>
  readFileSync(new URL(`../../fixtures/builds/${build}/opam-switch`, import.meta.url)).toString()
const text = switchOf(BUILD)

/** Compares a fixture with itself after a change of its switch. */
async function compareWith(changed: string) {
  expect(changed).not.toBe(text)
  return compareImages(
    await fixtureImage(BUILD),
    await fixtureImage(BUILD, { 'opam-switch': changed }),
  )
}

const MD5 = `md5=${'1'.repeat(32)}`
const OTHER_MD5 = `md5=${'2'.repeat(32)}`
const SHA256 = `sha256=${'1'.repeat(64)}`
const SHA512 = `sha512=${'1'.repeat(128)}`
const source = (url: string, ...checksums: string[]) => ({ url, checksums }) as OpamSource

describe('the bytes of two sources', () => {
  const url = 'https://example.org/a.tbz'
  const commit = `git+https://example.org/a.git#${'a'.repeat(40)}`
  it.each([
    ['the same', source(url, MD5), source(url, MD5), 'same'],
    ['more checksums', source(url, MD5), source(url, MD5, SHA256, SHA512), 'same'],
    ['fewer checksums', source(url, SHA512, MD5), source(url, MD5), 'same'],
    ['another order', source(url, SHA512, MD5), source(url, MD5, SHA512), 'same'],
    ['another address', source(url, MD5), source(`${url}2`, MD5), 'same'],
    ['one of several differs', source(url, MD5, SHA256), source(url, OTHER_MD5, SHA256), 'other'],
    ['another checksum', source(url, MD5), source(url, OTHER_MD5), 'other'],
    ['no kind in common', source(url, MD5), source(url, SHA256), 'unknown'],
    ['checksums on one side', source(url), source(url, SHA256), 'unknown'],
    ['no checksums', source(url), source(url), 'same'],
    ['no checksums, another address', source(url), source(`${url}2`), 'unknown'],
    ['one commit, with checksums since', source(commit), source(commit, MD5), 'same'],
    ['no source', undefined, undefined, 'same'],
    ['a source on one side', undefined, source(url), 'unknown'],
  ])('%s: %#', (_what, from, to, wanted) => {
    expect(compareBytes(from, to)).toBe(wanted)
    expect(compareBytes(to, from)).toBe(wanted)
  })
})

const FMT = /(fmt-0\.11\.0\.tbz"\s+"fmt"\s+\[?\s*)"/

describe('the same archive with more checksums', () => {
  it('is no change of a package', async () => {
    const more = text.replace(/(dune-3\.23\.1\.tbz"\s+checksum: \[)/, `$1\n"${MD5}"`)
    const found = await compareWith(more)
    expect(found.opam?.packages).toEqual({ added: [], removed: [], changed: [] })
    expect(describeComparison(found)).toEqual(['the same kernel from other inputs'])
  })

  it('is no change of a vendored source', async () => {
    const found = await compareWith(text.replace(FMT, `$1"${MD5}" "`))
    expect(found.opam?.vendored).toEqual({ added: [], removed: [], changed: [] })
    expect(describeComparison(found)).toEqual(['the same kernel from other inputs'])
  })
})

describe('other bytes under the same address', () => {
  it('of a package come first, with a field of their own', async () => {
    const found = await compareWith(
      text.replace(/(dune-3\.23\.1\.tbz"\s+checksum: \[\s+"sha256=)./, '$1f'),
    )
    expect(found.replacedSources).toEqual([
      {
        url: expect.stringMatching(/dune-3\.23\.1\.tbz$/),
        names: expect.arrayContaining(['dune']),
        checksums: {
          from: [expect.stringMatching(/^sha256=/)],
          to: expect.arrayContaining([expect.stringMatching(/^sha256=f/)]),
        },
      },
    ])
    const [first, second] = describeComparison(found)
    expect(first).toMatch(/^OTHER BYTES under the same address/)
    expect(second).toMatch(/^ {2}! dune.*: https:.*dune-3\.23\.1\.tbz: sha256=\S+ → sha256=/)
  })

  it('of a vendored source come first, and its line does not say that an address became itself', async () => {
    const found = await compareWith(
      text.replace(/(fmt-0\.11\.0\.tbz"\s+"fmt"\s+\[?\s*"sha(?:256|512)=)./, '$1f'),
    )
    expect(found.replacedSources).toMatchObject([{ names: ['fmt'] }])
    const lines = describeComparison(found)
    expect(lines[1]).toMatch(/^ {2}! fmt: https:/)
    expect(lines.filter((line) => line.startsWith('  ~'))).toEqual([
      expect.stringMatching(/^ {2}~ fmt under https:\S+ \(OTHER BYTES\)$/),
    ])
  })

  it('are seen also when the version is another', async () => {
    const found = await compareWith(
      text
        .replaceAll('dune.3.23.1"', 'dune.3.24.0"')
        .replace(/(package "dune" \{[^}]*?version: )"3\.23\.1"/s, '$1"3.24.0"')
        .replace(/(dune-3\.23\.1\.tbz"\s+checksum: \[\s+"sha256=)./, '$1f'),
    )
    expect(found.opam?.packages.added).toMatchObject([{ name: 'dune', version: '3.24.0' }])
    expect(found.replacedSources).toMatchObject([{ names: expect.arrayContaining(['dune']) }])
  })
})

describe('no line of a comparison says that a value became itself', () => {
  const ARROW = /^ *[~!] (?:.*?[ =])??(?<from>\S.*) → (?<to>.*)$/
  const expectNone = (lines: readonly string[]) => {
    for (const line of lines) {
      const [before = '', after] = line.split(' → ')
      if (after === undefined) continue
      const visible = (one: string) => one.replace(/[\p{Cc}\p{Cf}]/gu, '\uFFFD').trim()
      const to = visible(after.replace(/ DOWNGRADE| \(.*\)$| bytes$/g, ''))
      expect(visible(before).endsWith(` ${to}`) || visible(before).endsWith(`=${to}`), line).toBe(
        false,
      )
    }
  }
  it('for builds', async () => {
    const builds = [
      BUILD,
      'hello-key-2',
      'hello-key-3-freebsd-same-output',
      'hello-key-4-same-input-different-output',
    ]
    for (const from of builds) {
      for (const to of builds) {
        const lines = describeComparison(
          compareImages(await fixtureImage(from), await fixtureImage(to)),
        )
        expect(lines.some((line) => ARROW.test(line))).toBe(
          from.slice(0, 11) !== to.slice(0, 11) || (from !== to && lines.length > 1),
        )
        expectNone(lines)
      }
    }
  })

  it.each([
    ['other checksums of all kinds', text.replaceAll(/"(sha(?:256|512)|md5)=./g, '"$1=f')],
    ['no checksums', text.replaceAll(/"(?:sha(?:256|512)|md5)=[0-9a-f]+"/g, '')],
    [
      'another kind of checksum',
      text.replaceAll(/"(?:sha(?:256|512)|md5)=[0-9a-f]+"/g, `"${MD5}"`),
    ],
  ])('for %s', async (_what, changed) => {
    expectNone(describeComparison(await compareWith(changed)))
  })

  it('for lists in another order, and values that differ in what nobody sees', async () => {
    const side = (packages: string, variable: string) =>
      fixtureImage(BUILD, { 'system-packages': packages, 'build-environment': variable })
    const found = compareImages(
      await side('a=1\na=2', 'OS=linux\nA=x\nB=x\u200b'),
      await side('a=2\na=1', 'OS=linux\nA=x \nB=x'),
    )
    expect(found.systemPackages?.changed).toEqual([])
    const lines = describeComparison(found)
    expectNone(lines)
    expect(lines.join('\n')).toMatch(/A="x" → "x "/)
  })
})
