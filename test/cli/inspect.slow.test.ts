import { appendFile, cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { IMAGE_INDEX } from '../../src/oci/media-type.ts'
import { pushContainer, tarOf } from '../support/container-images.ts'
import { digestOf } from '../support/digest.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { build, builder, builderOutput, elf, errorLine, printedJson } from './builder.ts'
import { printed } from './operator.ts'

let registry: TestRegistry
let host: string
let folder: string
let login: string

beforeAll(async () => {
  registry = await startRegistry()
  host = registry.url.replace('http://', '')
  login = `http://admin:${registry.password}@${host}`
  folder = await mkdtemp(join(tmpdir(), 'rookery-inspect-'))
  await builderOutput(['push', build('hello-key-2'), '-'], { input: `${login}/hello/key:live` })
})

afterAll(async () => {
  await registry?.close()
  await rm(folder, { recursive: true, force: true })
})

const line = (text: string, heading: string) =>
  text
    .split('\n')
    .find((one) => one.startsWith(`${heading} `))
    ?.slice(heading.length)
    .trim()

describe('rookery inspect of a container image', () => {
  it('shows its kernel, with the path in it', async () => {
    const kernel = await readFile(elf('mini-net.hvt'))
    const layers = [await tarOf([['unikernel.hvt', kernel]])]
    const pushed = await pushContainer(registry, 'container/www', 'live', layers)
    const shown = await builderOutput(['inspect', '-'], { input: `${login}/container/www:live` })
    expect(line(shown, 'container')).toBe(pushed.headers.get('docker-content-digest'))
    expect(line(shown, 'path')).toBe('/unikernel.hvt')
    expect(line(shown, 'target')).toBe('hvt, ABI 2, x86_64')
    expect(shown).toContain(digestOf(kernel))
  })

  it('says why it has no kernel', async () => {
    const inspect = async (name: string, layer: Buffer) => {
      await pushContainer(registry, name, 'live', [layer])
      return errorLine(['inspect', '-'], { input: `${login}/${name}:live` })
    }
    const none = await inspect('container/none', await tarOf([['etc/passwd', 'root']]))
    expect(none).toContain('container/none:live is not a unikernel image: it has no Solo5 kernel')
    const broken = await inspect('container/broken', Buffer.alloc(2000, 'x'))
    expect(broken).toMatch(/the layer sha256:[0-9a-f]{64} cannot be read: it is no tar file/)
  })
})

describe('rookery inspect', () => {
  it('shows a kernel, and the command line of its tender', async () => {
    const shown = await builderOutput(['inspect', elf('mini-blk-net2.spt')])
    expect(line(shown, 'target')).toBe('spt, ABI 2, x86_64')
    expect(line(shown, 'devices')).toMatch(/^(?:block|net) \S+$/)
    const { devices } = await printedJson(['inspect', elf('mini-blk-net2.spt')])
    const options = devices.map(
      ({ kind, name }: { kind: string; name: string }) =>
        `--${kind}:${name}=${kind === 'net' ? 'TAP' : 'DISK'}`,
    )
    expect(options).toHaveLength(3)
    expect(line(shown, 'run')).toBe(`solo5-spt ${options.join(' ')} -- mini-blk-net2.spt`)
  })

  it('supports every target and processor', async () => {
    for (const [name, target, architecture] of [
      ['mini-none.hvt', 'hvt', 'x86_64'],
      ['mini-arm.hvt', 'hvt', 'aarch64'],
      ['mini.virtio', 'virtio', 'x86_64'],
      ['mini.muen', 'muen', 'x86_64'],
      ['mini.genode', 'genode', 'x86_64'],
      ['mini.xen', 'xen', 'x86_64'],
    ]) {
      const shown = await printedJson(['inspect', elf(name ?? '')])
      expect(shown, name).toMatchObject({ target, architecture, digest: null })
    }
    expect((await printedJson(['inspect', elf('mini-max63.hvt')])).devices).toHaveLength(63)
  })

  it('shows the same for a folder and for the image pushed from it', async () => {
    const here = await printedJson(['inspect', build('hello-key-2'), '--packages'])
    const there = await printedJson(['inspect', `${host}/hello/key:live`, '--packages', '--verify'])
    expect([here.packagesFrom, there.packagesFrom]).toEqual(['image', 'registry'])
    const common = { name: '', packagesFrom: '' }
    expect({ ...there, ...common }).toEqual({ ...here, ...common })
    const [, opam] = there.packageCounts
    expect(opam).toMatchObject({
      ecosystem: 'opam',
      total: opam.known + opam.inferred + opam.unknown,
    })
    expect(there).toMatchObject({
      inputId: '9423c054627a2b252e2add614e4fc6faf8b326eb9c79b94e2ce64046374a9d1d',
      missingInputs: [],
      contradiction: null,
      buildHash: { algorithm: 'md5', same: true },
      buildEnvironment: { host: { os: 'linux', distribution: 'debian', version: '12' } },
      opam: { count: 43, roots: [{ name: 'hello-key', version: '1.0.0' }] },
      systemPackages: { manager: 'dpkg', count: 110 },
    })
    const byDigest = await printedJson(['inspect', `${host}/hello/key@${there.digest}`])
    expect(byDigest).toMatchObject({ digest: there.digest, verified: false, buildHash: null })
  })

  it('prints lines of text', async () => {
    const shown = await builderOutput(['inspect', `${host}/hello/key:live`, '--packages'])
    expect(line(shown, 'opam')).toMatch(/^43 packages, ocaml 5\.2\.1, mirage 4\.11\.2/)
    expect(line(shown, 'system')).toBe('110 dpkg packages')
    expect(line(shown, 'built on')).toBe('debian 12, x86_64, SOURCE_DATE_EPOCH 1589138087')
    expect(line(shown, 'opam/dune')).toMatch(/^3\.24\.2 +installed +https:/)
    expect(line(shown, 'opam/lwt')).toMatch(/^6\.1\.2 +inferred +https:/)
    expect(line(shown, 'deb:')).toBe(
      '110 packages: 110 (100.0 %) known, 0 (0.0 %) inferred, 0 (0.0 %) unknown',
    )
    expect(line(shown, 'opam:')).toMatch(
      /^\d+ packages: \d+ \(\d+\.\d %\) known, \d+ \(\d+\.\d %\) inferred, \d+ \(\d+\.\d %\) unknown$/,
    )
    expect(line(shown, 'debug')).toMatch(/^hello-key\.hvt\.debug +132\.7 KiB +sha256:/)
    expect(Math.max(...shown.split('\n').map(({ length }) => length))).toBeLessThan(200)
  })

  it('lists the images of an index, and shows one by its target', async () => {
    const digests: Record<string, string> = {}
    const manifests = []
    for (const [variant, architecture, file] of [
      ['spt', 'amd64', 'mini-blk-net2.spt'],
      ['hvt', 'amd64', 'mini-net.hvt'],
      ['hvt', 'arm64', 'mini-arm.hvt'],
    ] as const) {
      const ran = await builder(['push', elf(file), '-', '--json'], {
        input: `${login}/several:${file}`,
      })
      const { digest } = JSON.parse(ran.stdout)
      digests[file] = digest
      const answer = await registry.anonymous(`/v2/several/manifests/${digest}`)
      const size = (await answer.arrayBuffer()).byteLength
      const mediaType = answer.headers.get('content-type')
      manifests.push({ mediaType, digest, size, platform: { os: 'solo5', architecture, variant } })
    }
    const put = await registry.request('/v2/several/manifests/all', {
      method: 'PUT',
      headers: { 'content-type': IMAGE_INDEX },
      body: JSON.stringify({ schemaVersion: 2, mediaType: IMAGE_INDEX, manifests }),
    })
    expect(put.status).toBe(201)
    const all = `${host}/several:all`
    expect(await builderOutput(['inspect', all])).toMatch(/solo5 +spt +amd64 +sha256:/)
    const index = await printedJson(['inspect', all])
    expect(index.images).toHaveLength(3)
    const chosen = async (...more: string[]) =>
      (await printedJson(['inspect', all, ...more])).digest
    expect(await chosen('--target', 'spt')).toBe(digests['mini-blk-net2.spt'])
    expect(await chosen('--target', 'hvt', '--arch', 'aarch64')).toBe(digests['mini-arm.hvt'])
    expect(await chosen('--arch', 'arm64')).toBe(digests['mini-arm.hvt'])
    const one = await printedJson(['inspect', all, '--target', 'spt'])
    expect(one.index).toBe(index.index)
    expect(await errorLine(['inspect', all, '--target', 'hvt'])).toMatch(
      /has several images for hvt; choose with --target and --arch: spt amd64, hvt amd64, hvt/,
    )
    expect(await errorLine(['inspect', all, '--target', 'xen'])).toMatch(/has no image for xen/)
  })

  it('shows a private image to a login that may pull it', async () => {
    await builderOutput(['push', build('hello-key-2'), '-'], {
      input: `${login}/secret/key:live`,
    })
    await printed(registry, 'repository', 'set', 'secret/key', '--visibility', 'private')
    const place = ['inspect', `${host}/secret/key:live`]
    expect(await errorLine(place)).toMatch(/authentication required.*; log in: --username/)
    const password = ['--username', 'admin', '--password-stdin']
    const shown = await printedJson([...place, ...password], { input: registry.password })
    expect(shown).toMatchObject({ target: 'hvt' })
  })

  it('reports missing files and images, and files that are not kernels', async () => {
    const cut = join(folder, 'build')
    await cp(build('hello-key-2'), cut, { recursive: true })
    await appendFile(join(cut, 'bin/hello-key.hvt'), 'more')
    const wrong: [words: string[], right: RegExp][] = [
      [['inspect', 'absent.hvt'], /there is no file or folder absent\.hvt$/],
      [['inspect', './absent/x'], /there is no file or folder/],
      [
        ['inspect', 'absent/x'],
        /there is no file or folder absent\/x, and it is not an image reference/,
      ],
      [['inspect', `${host}/hello/key:absent`], /there is no image absent in hello\/key/],
      [['inspect', `${host}/hello/key`], /must end with :TAG or @DIGEST$/],
      [['inspect', build('hello-key-5-failed')], /there is no Solo5 kernel/],
      [['inspect', join(build('hello-key-1'), 'opam-switch')], /is not an ELF executable/],
      [['inspect', elf('mini-net.hvt'), '--target', 'spt'], /is for hvt, not spt$/],
      [['inspect', elf('mini-net.hvt'), '--arch', 'arm64'], /is for x86_64, not arm64$/],
      [['inspect', cut], /build-hashes says that the md5 of the kernel is/],
    ]
    for (const [words, right] of wrong) expect(await errorLine(words)).toMatch(right)
  })
})
