import { createServer } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expectedOf, pushBuild } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { build, builder } from './builder.ts'
import type { Ran } from './rookery.ts'

let registry: TestRegistry
let host: string

beforeAll(async () => {
  registry = await startRegistry()
  host = new URL(registry.url).host
  await pushBuild(registry, 'hello/key', 'v1', 'hello-key-1')
  await pushBuild(registry, 'hello/key', 'v2', 'hello-key-2')
  await pushBuild(registry, 'hello/key', 'live', 'hello-key-1')
  await pushBuild(registry, 'hello/key', 'live', 'hello-key-2')
  await pushBuild(registry, 'hello/again', 'v2', 'hello-key-4-same-input-different-output')
})
afterAll(() => registry.close())

const ask = (...words: string[]): Promise<Ran> => builder(words)

async function printedJson(...words: string[]) {
  const { status, stdout, stderr } = await ask(...words, '--json')
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return JSON.parse(stdout)
}

async function printed(...words: string[]): Promise<string> {
  const { status, stdout, stderr } = await ask(...words)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return stdout
}

describe('rookery image list', () => {
  it('lists the images of a repository as a table and as JSON', async () => {
    const { images } = await printedJson('image', 'list', `${host}/hello/key`)
    expect(images.map(({ tags }: { tags: string[] }) => tags)).toEqual([['live', 'v2'], ['v1']])
    expect(await printed('image', 'list', `${host}/hello/key`)).toMatch(
      /^REPOSITORY .*\nhello\/key +live,v2 +sha256:[0-9a-f]{12} +hvt +- +hidden +20.*\n.*\nhidden: only a login with rights/,
    )
    const login = { ROOKERY_TOKEN: await pushToken() }
    const member = await builder(['image', 'list', `${host}/hello/key`], login)
    expect(member.stdout).toMatch(/\nhello\/key +live,v2 +sha256:[0-9a-f]{12} +hvt +- +admin +20/)
    expect(await printed('image', 'list', `${host}/hello/key`, '--target', 'spt')).toBe(
      'There are none.\n',
    )
    const cut = ['image', 'list', `${host}/hello/key`, '--limit', '1']
    const page = await printedJson(...cut)
    expect(page).toMatchObject({ images: [{}], more: true })
    expect(await printed(...cut)).toMatch(/\nThere are more: raise --limit\.\n$/)
  })
})

describe('rookery search kernel', () => {
  it('finds the images of a kernel, and reports by its status whether there are any', async () => {
    const file = `${build('hello-key-1')}/bin/hello-key.hvt`
    const { main_binary_sha256: hex } = expectedOf('hello-key-1')
    for (const kernel of [file, `sha256:${hex}`]) {
      const { kernel: digest, images } = await printedJson('search', 'kernel', host, kernel)
      expect(digest).toBe(`sha256:${hex}`)
      expect(images.length).toBe(1)
    }
    const tagged = await printedJson('search', 'kernel', host, file, '--tagged', '--tag', 'v*')
    expect(tagged.images.length).toBe(1)
    const other = await ask('search', 'kernel', host, file, '--repository', 'web/**')
    expect(other).toMatchObject({ status: 1, stdout: 'There are none.\n' })
    const unknown = await ask('search', 'kernel', host, `sha256:${'0'.repeat(64)}`)
    expect(unknown).toMatchObject({ status: 1, stdout: 'There are none.\n' })
  })
})

describe('rookery search inputs', () => {
  it('finds the kernels of the inputs, and says which are claims of others', async () => {
    const { input_id: reproducible } = expectedOf('hello-key-1')
    expect(await printed('search', 'inputs', host, reproducible)).toMatch(/^kernel sha256:/)
    const { input_id: not } = expectedOf('hello-key-2')
    const found = await ask('search', 'inputs', host, not)
    expect(found.status).toBe(0)
    expect(found.stdout).toMatch(/Others claim different kernels for these inputs/)
    const own = await ask('search', 'inputs', host, not, '--repository', 'hello/key')
    expect(own.status).toBe(0)
    expect(own.stdout).toMatch(/^kernel sha256:[0-9a-f]{64}\n[^,]+hello\/key/)
    expect(await printed('search', 'inputs', host, '0'.repeat(64))).toMatch(/^No image was built/)
    const tagged = await printedJson('search', 'inputs', host, reproducible, '--tagged')
    expect(tagged.outputs.length).toBe(1)
    expect(await printed('search', 'inputs', host, reproducible, '--tag', 'none*')).toMatch(
      /^No image with such a tag was built/,
    )
  })
})

describe('rookery search packages', () => {
  it('lists images that contain a package, by version', async () => {
    const versions = async (...words: string[]) =>
      (await printedJson('search', 'packages', host, ...words)).images.map(
        ({ repository, version }: { repository: string; version: string }) =>
          `${repository} ${version}`,
      )
    expect(await versions('opam/dune', '< 3.24')).toEqual(['hello/key 3.23.1'])
    expect((await versions('opam/dune')).length).toBe(3)
    // Vendored, and not installed in the switch.
    expect(await versions('opam/mirage-solo5', '>= 0.10')).toHaveLength(3)
    expect(await printed('search', 'packages', host, 'deb/bash')).toMatch(
      /\nhello\/again +v2 .* 5\.2\.15/,
    )
  })
})

describe('rookery search sources', () => {
  const from = 'git@github.com:Solo5/solo5.git'

  it('lists images that were built from a repository, with its packages', async () => {
    const { images, more } = await printedJson('search', 'sources', host, '--from', from)
    expect([images.length, more]).toEqual([3, false])
    const limited = ['--from', from, '--tagged', '--tag', 'v2', '--repository', 'hello/key']
    expect(await printed('search', 'sources', host, ...limited)).toMatch(
      /^REPOSITORY +TAGS .*SOURCE\nhello\/key +live,v2 .* solo5\.0\.12\.1 +https:\/\/github\.com\/Solo5\S+\n$/,
    )
    const cut = await printed('search', 'sources', host, '--from', from, '--limit', '1')
    expect(cut).toMatch(/\nThere are more: raise --limit\.\n$/)
  })

  it('lists images that an archive was built into', async () => {
    const { images } = await printedJson('search', 'sources', host, '--from', `${from}#v0.12.1`)
    const [checksum] = images[0].source.checksums
    const found = await printedJson('search', 'sources', host, '--checksum', checksum)
    expect(found.images).toEqual(images)
    expect(await printed('search', 'sources', host, '--checksum', `md5=${'0'.repeat(32)}`)).toBe(
      'There are none.\n',
    )
  })
})

describe('rookery compare', () => {
  it('prints the changes', async () => {
    const text = await printed('compare', `${host}/hello/key:v1`, 'v2')
    expect(text).toMatch(/^another kernel from other inputs\nkernel\n {2}~ sha256:/)
    expect(text).toMatch(/\nopam packages\n(?: {2}.*\n)* {2}~ solo5 0\.10\.1 → 0\.12\.1\n/)
    expect(text).toMatch(/\nhost packages\n {2}\+ libseccomp-dev .*\n {2}~ bash 5\.2\.15-2\+b7 → /)
    expect(await printed('compare', `${host}/hello/key:v2`, 'v1')).toMatch(/0\.10\.1 DOWNGRADE\n/)
  })

  it('says that both are the same image, and not that a build was reproduced', async () => {
    const { verdict, to } = await printedJson('compare', `${host}/hello/key:v2`, 'live')
    expect(verdict).toBe('same-image')
    for (const other of ['live', `${host}/hello/key:live`, to.digest, `@${to.digest}`]) {
      const text = await printed('compare', `${host}/hello/key:v2`, other)
      expect(text).toBe('the same image on both sides\n')
    }
  })

  it('finds the previous build with another kernel, the next and the latest', async () => {
    const { from, to } = await printedJson('compare', `${host}/hello/key:live`, '--previous')
    expect([from.tags, to.tags]).toEqual([['v1'], ['live', 'v2']])
    const text = await printed('compare', `${host}/hello/key:live`, '--previous')
    expect(text).toMatch(
      /^from sha256:[0-9a-f]{64} \(v1\), pushed 20.*\nto {3}sha256:[0-9a-f]{64} \(live, v2\), pushed 20.*\nanother kernel/,
    )
    const next = await printedJson('compare', `${host}/hello/key:v1`, '--next')
    expect(next.to.tags).toEqual(['live', 'v2'])
    expect((await printedJson('compare', `${host}/hello/key:v1`, '--latest')).to).toEqual(next.to)
    const none = await ask('compare', `${host}/hello/key:v1`, '--previous')
    expect(none).toMatchObject({ status: 2, stdout: '' })
    expect(none.stderr).toMatch(/hello\/key has no earlier build with another kernel on debian-12/)
  })

  it('needs one other image', async () => {
    for (const words of [[], ['v2', '--previous'], ['--previous', '--latest']]) {
      const found = await ask('compare', `${host}/hello/key:v1`, ...words)
      expect(found.stderr).toMatch(/name one other image: a tag or digest, or one of --previous/)
    }
  })

  it('accepts whole references, of one repository', async () => {
    const whole = `${host}/hello/key:v2`
    const text = await printed('compare', `${host}/hello/key:v1`, whole)
    expect(text).toBe(await printed('compare', `${host}/hello/key:v1`, 'v2'))
  })
})

describe('rookery sbom and provenance', () => {
  it('print documents', async () => {
    const document = async (...words: string[]) => JSON.parse(await printed(...words))
    const image = `${host}/hello/key:v1`
    expect(await document('sbom', image)).toMatchObject({ bomFormat: 'CycloneDX' })
    expect(await document('sbom', image, '--format', 'spdx')).toMatchObject({
      spdxVersion: 'SPDX-2.3',
    })
    expect(await document('provenance', image)).toMatchObject({
      predicateType: 'https://slsa.dev/provenance/v1',
    })
  })
})

describe('an answer that the registry has cut', () => {
  it('is printed with a line that says so', async () => {
    const server = createServer((_, res) => {
      res.setHeader('content-type', 'application/json')
      res.end('{"images":[],"truncated":true}')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const words = ['search', 'packages', `http://127.0.0.1:${port}`, 'opam/tls']
    try {
      expect(await printed(...words)).toMatch(/\nThe package has more versions than the registry/)
      expect(await printedJson(...words)).toEqual({ images: [], more: false, truncated: true })
    } finally {
      server.close()
    }
  })
})

describe('rookery tag', () => {
  it('shows the history of a tag, and rolls it back', async () => {
    const login = { ROOKERY_TOKEN: await pushToken() }
    const image = `${host}/hello/key:live`
    const { positions } = await printedJson('tag', 'history', image)
    expect(positions).toMatchObject([{ reason: 'push', present: true }, { reason: 'push' }])
    const [now, before] = positions.map(({ digest }: { digest: string }) => digest)
    const refused = await builder(['tag', 'rollback', image, '--if', before], login)
    expect(refused.status).toBe(2)
    expect(refused.stderr).toMatch(/^rookery: .*condition.*\n$/)
    const done = await builder(['tag', 'rollback', image, '--if', now], login)
    expect(done).toMatchObject({ status: 0, stdout: `live is at ${before}; it was at ${now}\n` })
    expect(await printed('tag', 'history', image)).toMatch(
      /\n20\S+ +rollback +sha256:\w+ +stored +hidden\n(?:.*\n)+hidden: only a login with rights/,
    )
    const member = await builder(['tag', 'history', image], login)
    expect(member.stdout).toMatch(/\n20\S+ +rollback +sha256:\w+ +stored +admin\n/)
    expect(member.stdout).not.toContain('hidden')
    const forth = await builder(['tag', 'rollback', image, '--to', now, '--json'], login)
    expect(JSON.parse(forth.stdout)).toMatchObject({ digest: now, previousDigest: before })
    const stranger = await ask('tag', 'rollback', image)
    expect(stranger.status).toBe(2)
    expect(stranger.stderr).toMatch(/log in|login|credential|token/i)
  })
})

async function pushToken(): Promise<string> {
  const scope = encodeURIComponent('repository:hello/key:pull,push')
  const answer = await registry.request(`/token?scope=${scope}`)
  return ((await answer.json()) as { token: string }).token
}

describe('a wrong request is reported', () => {
  it.each([
    [['image', 'list', 'hello/key'], /must begin with a host/],
    [['image', 'list', 'HOST/no/such'], /refused the list of images/],
    [['image', 'list', 'HOST/hello/key', '--limit', '0'], /--limit must be a number from 1/],
    [['image', 'list', 'HOST/hello/key', '--abi', 'two'], /abi must be a number/],
    [['search', 'kernel', 'HOST', 'no-such-file'], /is not a digest, and cannot be read/],
    [['search', 'kernel', 'HOST', 'sha256:12'], /digest/],
    [['search', 'inputs', 'HOST', 'x'], /64 hexadecimal digits/],
    [['search', 'packages', 'HOST', 'dune'], /a package must be like opam\/tls/],
    [
      ['search', 'packages', 'HOST', 'npm/left-pad'],
      /the ecosystem must be one of opam, deb, apk, freebsd/,
    ],
    [['search', 'packages', 'HOST', 'opam/dune', '3.24'], /expected one of = != /],
    [['compare', 'HOST/hello/key:v1', 'HOST/hello/again:v2'], /must be in one repository/],
    [['compare', 'HOST/hello/key:v1', 'HOST/hello/key'], /must end with :TAG or @DIGEST/],
    [['compare', 'HOST/hello/key:v1', 'no'], /manifest|MANIFEST_UNKNOWN/],
    [['compare', 'HOST/hello/key', 'v1'], /must end with :TAG or @DIGEST/],
    [['sbom', 'HOST/hello/key:v1', '--format', 'pdf'], /--format must be cyclonedx or spdx/],
    [['tag', 'history', 'HOST/hello/key'], /must end with :TAG/],
    [['tag', 'history', 'HOST/hello/key:never'], /tag never never existed/],
    [['search', 'sources', 'HOST'], /name one source, by --from or by --checksum/],
    [['search', 'sources', 'HOST', '--from', 'mirage'], /the address of a source repository/],
    [['search', 'sources', 'HOST', '--checksum', 'x'], /checksum must be like sha256=/],
    [['search', 'packages', '127.0.0.1:1', 'opam/dune'], /127\.0\.0\.1:1/],
  ])(
    '%j',
    async (words, message) => {
      const { status, stdout, stderr } = await ask(...words.map((one) => one.replace('HOST', host)))
      expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
      expect(stderr).toMatch(message)
      expect(stderr).toMatch(/^rookery: \S/)
    },
    30_000,
  )
})
