import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  ask,
  type Build,
  expectedOf,
  fixture,
  fixtureOf,
  formOf,
  KERNEL,
  messageOf,
  postImage,
  pushBuild,
  pushLayers,
} from './image-fixtures.ts'

type Listed = { digest: string; repository: string; tags: string[]; version?: string }

let registry: TestRegistry

// The queries are about the whole registry, so this file has its own.
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

async function pushKernel(
  repository: string,
  name: string,
  tag: string,
  bytes = fixture(`elf/${name}`),
) {
  const form = new FormData()
  form.append('kernel', new Blob([new Uint8Array(bytes)]), name)
  const answer = await postImage(registry, repository, `?tag=${tag}`, form)
  expect(answer.status).toBe(201)
  return ((await answer.json()) as { digest: string }).digest
}

/** A unique kernel: an ELF may have trailing bytes. */
const anotherKernel = () => Buffer.concat([fixture('elf/mini-net.hvt'), randomBytes(8)])

describe('the images of a repository', () => {
  let repository: string
  beforeAll(async () => {
    repository = newRepository()
    for (const name of [
      'mini-none.hvt',
      'mini-net.hvt',
      'mini-blk-net2.spt',
      'mini.xen',
      'mini-arm.hvt',
    ]) {
      await pushKernel(repository, name, name.replace('.', '-'))
    }
  })
  const tags = async (query: string) => {
    const { images } = await ask(registry, `repositories/${repository}/images${query}`)
    return images.flatMap((image: Listed) => image.tags)
  }

  it('are listed, newest first', async () => {
    expect(await tags('')).toEqual([
      'mini-arm-hvt',
      'mini-xen',
      'mini-blk-net2-spt',
      'mini-net-hvt',
      'mini-none-hvt',
    ])
  })

  it.each([
    ['?target=spt', ['mini-blk-net2-spt']],
    ['?target=xen', ['mini-xen']],
    ['?arch=arm64', ['mini-arm-hvt']],
    ['?arch=aarch64&target=hvt', ['mini-arm-hvt']],
    ['?arch=amd64&target=hvt', ['mini-net-hvt', 'mini-none-hvt']],
    ['?abi=2&target=hvt&arch=x86_64', ['mini-net-hvt', 'mini-none-hvt']],
    ['?abi=77', []],
    ['?device=block', ['mini-blk-net2-spt']],
    ['?device=net:private', ['mini-blk-net2-spt']],
    ['?device=private', ['mini-blk-net2-spt']],
    ['?device=priv', []],
    ['?builder=admin&target=spt', ['mini-blk-net2-spt']],
    ['?builder=nobody', []],
    [
      '?target=',
      ['mini-arm-hvt', 'mini-xen', 'mini-blk-net2-spt', 'mini-net-hvt', 'mini-none-hvt'],
    ],
  ])('can be filtered by %s', async (query, wanted) => {
    expect(await tags(query)).toEqual(wanted)
  })

  it('are paged with the same filter', async () => {
    const seen: string[] = []
    let path: string | undefined = `/api/v1/repositories/${repository}/images?n=1&arch=amd64`
    while (path !== undefined) {
      const answer = await registry.anonymous(path)
      const { images } = (await answer.json()) as { images: Listed[] }
      seen.push(...images.flatMap((image) => image.tags))
      path = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1]
      expect(seen.length).toBeLessThan(10)
    }
    expect(seen).toEqual(['mini-xen', 'mini-blk-net2-spt', 'mini-net-hvt', 'mini-none-hvt'])
    expect(await tags('?n=0')).toEqual([])
  })

  it.each([
    ['?abi=two', /abi must be a number/],
    ['?last=x', /last must be the cursor from the previous page/],
    ['?n=x', /n must be a whole number/],
    ['?target=a&target=b', /target is given twice/],
  ])('%s is refused', async (query, message) => {
    const answer = await registry.anonymous(`/api/v1/repositories/${repository}/images${query}`)
    expect(answer.status).toBe(400)
    expect(await messageOf(answer)).toMatch(message)
  })

  it('change with their tags and manifests', async () => {
    const name = newRepository()
    const first = await pushKernel(name, 'mini-net.hvt', 'live')
    await pushKernel(name, 'mini.xen', 'live')
    const { images } = await ask(registry, `repositories/${name}/images`)
    expect(images.map((image: Listed) => image.tags)).toEqual([['live'], []])
    await registry.request(`/v2/${name}/manifests/${first}`, { method: 'DELETE' })
    const left = await ask(registry, `repositories/${name}/images`)
    expect(left.images.length).toBe(1)
    await ask(registry, `repositories/${name}/images/${first}`, 404)
  })
})

describe('a kernel for a host', () => {
  let path: string
  const bytes = fixture('elf/mini-net.hvt')
  beforeEach(async () => {
    const repository = newRepository()
    await pushKernel(repository, 'mini-net.hvt', 'live')
    path = `/api/v1/repositories/${repository}/images/live/kernel`
  })

  it('is served with its digest and its name', async () => {
    for (const method of ['HEAD', 'GET']) {
      const answer = await registry.anonymous(path, { method })
      expect(Object.fromEntries(answer.headers)).toMatchObject({
        etag: `"${digestOf(bytes)}"`,
        'docker-content-digest': digestOf(bytes),
        'content-length': String(bytes.length),
        'content-type': 'application/octet-stream',
        'accept-ranges': 'bytes',
        'content-disposition': 'attachment; filename="mini-net.hvt"',
        'oci-image-digest': expect.stringMatching(/^sha256:/),
      })
      const got = Buffer.from(await answer.arrayBuffer())
      expect(got.equals(method === 'GET' ? bytes : Buffer.alloc(0))).toBe(true)
    }
  })

  it('is served conditionally and in ranges', async () => {
    const headers = { 'if-none-match': `"${digestOf(bytes)}"` }
    for (const method of ['HEAD', 'GET']) {
      expect((await registry.anonymous(path, { method, headers })).status).toBe(304)
    }
    const part = await registry.anonymous(path, { headers: { range: 'bytes=100-199' } })
    expect(part.status).toBe(206)
    expect(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(100, 200))).toBe(true)
  })

  it('is never served for another target', async () => {
    for (const query of ['?target=spt', '?abi=1', '?arch=arm64', '?target=hvt&abi=3']) {
      const answer = await registry.anonymous(path + query)
      expect(answer.status).toBe(404)
      expect(await messageOf(answer)).toMatch(/live has no such kernel, but hvt, ABI 2, x86_64/)
    }
    expect((await registry.anonymous(`${path}?target=hvt&abi=2&arch=amd64`)).status).toBe(200)
  })

  it.each([
    [
      'schön "x"\r\n.hvt',
      `attachment; filename="sch_n \\"x\\".hvt"; filename*=UTF-8''sch%C3%B6n%20%22x%22.hvt`,
    ],
    [
      'ядро.hvt',
      'attachment; filename="____.hvt"; filename*=UTF-8\'\'%D1%8F%D0%B4%D1%80%D0%BE.hvt',
    ],
    ["it's(1)*.hvt", 'attachment; filename="it\'s(1)*.hvt"'],
    ['a%41.hvt', 'attachment; filename="a%41.hvt"; filename*=UTF-8\'\'a%2541.hvt'],
    ['../../index.html', 'attachment; filename="index.html"'],
    ['\u0007', 'attachment'],
  ])('with the title %j has a Content-Disposition that clients can parse', async (title, right) => {
    const repository = newRepository()
    await pushLayers(registry, repository, 'v1', [{ mediaType: KERNEL, bytes, title }])
    const answer = await registry.anonymous(`/api/v1/repositories/${repository}/images/v1/kernel`)
    expect(answer.headers.get('content-disposition')).toBe(right)
    expect(answer.headers.get('content-type')).toBe('application/octet-stream')
  })

  it('of a manifest that is not a unikernel is 404', async () => {
    const repository = newRepository()
    await pushLayers(registry, repository, 'v1', [
      { mediaType: 'text/plain', bytes: Buffer.from('x'), title: 'x' },
    ])
    for (const [reference, message] of [
      ['v1', /v1 is not a unikernel: it has no Solo5 kernel/],
      ['v2', /^MANIFEST_UNKNOWN/],
      ['sha256:x', /^DIGEST_INVALID/],
    ] as const) {
      const answer = await registry.anonymous(
        `/api/v1/repositories/${repository}/images/${reference}/kernel`,
      )
      expect(await messageOf(answer)).toMatch(message)
    }
  })
})

describe('kernels and reproductions', () => {
  it('the images of a kernel are listed', async () => {
    const [one, other] = [newRepository(), newRepository()]
    const bytes = anotherKernel()
    await pushKernel(one, 'a.hvt', 'v1', bytes)
    await pushKernel(other, 'b.hvt', 'v2', bytes)
    const { images } = await ask(registry, `kernels/${digestOf(bytes)}`)
    expect(images.map(({ repository, tags }: Listed) => [repository, tags])).toEqual([
      [other, ['v2']],
      [one, ['v1']],
    ])
    expect(await ask(registry, `kernels/${digestOf('none')}`)).toEqual({
      kernel: digestOf('none'),
      images: [],
    })
    await ask(registry, 'kernels/none', 400)
  })

  it('the fixture builds are grouped by inputs and kernels', async () => {
    const own = await startRegistry()
    try {
      const builds: Build[] = [
        'hello-key-1',
        'hello-key-2',
        'hello-key-3-freebsd-same-output',
        'hello-key-4-same-input-different-output',
      ]
      for (const [index, build] of builds.entries())
        await pushBuild(own, `b/${index + 1}`, 'v1', build)
      const [first, second, third, fourth] = builds.map(expectedOf)
      const grouped = async (inputId = '') => {
        const { outputs, otherInputs, more } = await ask(own, `inputs/${inputId}`)
        expect(more).toBe(false)
        return {
          outputs: Object.fromEntries(
            outputs.map((output: { kernel: string; images: Listed[] }) => [
              output.kernel.slice(7),
              output.images.map(({ repository }) => repository),
            ]),
          ),
          otherInputs: otherInputs.map(({ repository }: Listed) => repository),
        }
      }
      expect(second?.input_id).toBe(fourth?.input_id)
      expect(await grouped(first?.input_id)).toEqual({
        outputs: { [first?.main_binary_sha256 ?? '']: ['b/1'] },
        otherInputs: [],
      })
      expect(await grouped(second?.input_id)).toEqual({
        outputs: {
          [second?.main_binary_sha256 ?? '']: ['b/2'],
          [fourth?.main_binary_sha256 ?? '']: ['b/4'],
        },
        otherInputs: ['b/3'],
      })
      expect(await grouped(third?.input_id)).toEqual({
        outputs: { [third?.main_binary_sha256 ?? '']: ['b/3'] },
        otherInputs: ['b/2'],
      })
      expect(await grouped('0'.repeat(64))).toEqual({ outputs: {}, otherInputs: [] })
    } finally {
      await own.close()
    }
  })

  it('a malformed input id is refused', async () => {
    const answer = await registry.anonymous('/api/v1/inputs/xyz')
    expect(await messageOf(answer)).toMatch(/an input id must have 64 hexadecimal digits/)
  })
})

describe('one image', () => {
  it('is described with its analysis', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'v1', 'hello-key-2')
    const facts = await ask(registry, `repositories/${repository}/images/v1`)
    expect(facts.opam.roots).toEqual([{ name: 'hello-key', version: expect.any(String) }])
    const dune = facts.opam.installed.find(({ name }: { name: string }) => name === 'dune')
    expect(dune).toMatchObject({
      version: '3.24.2',
      pinned: false,
      source: {
        url: expect.stringMatching(/^https:/),
        checksums: [expect.stringMatching(/^sha256=/), expect.stringMatching(/^sha512=/)],
      },
    })
    expect(facts.systemPackages).toMatchObject({ manager: 'dpkg', problems: [] })
    expect(facts.systemPackages.packages).toContainEqual({ name: 'bash', version: '5.2.15-2+b8' })
    expect(facts.buildEnvironment.variables).toContainEqual({ name: 'OS', value: 'linux' })
    expect(facts.buildHashes.files[0]).toMatchObject({ path: 'bin/hello-key.hvt' })
    expect(fixtureOf('hello-key-2', 'opam-switch').toString()).toContain('dune.3.24.2')
  })

  it('with the lists of another image shares their analysis', async () => {
    const [one, other] = [newRepository(), newRepository()]
    await pushBuild(registry, one, 'v1')
    const form = formOf('hello-key-1', {
      kernel: anotherKernel(),
      'build-hashes': null,
      debug: null,
    })
    expect((await postImage(registry, other, '?tag=v1', form)).status).toBe(201)
    const [a, b] = [
      await ask(registry, `repositories/${one}/images/v1`),
      await ask(registry, `repositories/${other}/images/v1`),
    ]
    expect(b.opam).toEqual(a.opam)
    expect(b.inputId).toBe(a.inputId)
    expect(b.kernel.digest).not.toBe(a.kernel.digest)
  })
})
