import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  ask,
  type Build,
  fixture,
  kernel,
  messageOf,
  postImage,
  pushBuild,
  pushLayers,
} from './image-fixtures.ts'

const ONE = 'hello-key-1'
const TWO = 'hello-key-2'
const FREEBSD = 'hello-key-3-freebsd-same-output'
const OTHER_OUTPUT = 'hello-key-4-same-input-different-output'

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

async function sql(text: string, values: unknown[]): Promise<void> {
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  await client.query(text, values)
  await client.end()
}

type Sides = { from: { tags: string[] }; to: { tags: string[] }; verdict: string }

/** Pushes builds in this order, each with its index as tag, such as `b0`. */
async function pushed(...builds: Build[]): Promise<string> {
  const repository = newRepository()
  for (const [index, build] of builds.entries()) {
    await pushBuild(registry, repository, `b${index}`, build)
  }
  return repository
}

const path = (repository: string, tag: string, which: string) =>
  `repositories/${repository}/images/${tag}/compare?with=${which}`

async function sides(repository: string, tag: string, which: string): Promise<string[]> {
  const { from, to }: Sides = await ask(registry, path(repository, tag, which))
  return [from.tags[0] ?? '', to.tags[0] ?? '']
}

async function refusal(repository: string, tag: string, which: string): Promise<string> {
  const answer = await registry.request(`/api/v1/${path(repository, tag, which)}`)
  expect(answer.status).toBe(404)
  return messageOf(answer)
}

describe('an image is compared with', () => {
  it('the newest earlier build that has another kernel, older side first', async () => {
    const repository = await pushed(ONE, TWO, OTHER_OUTPUT)
    expect(await sides(repository, 'b2', 'previous')).toEqual(['b1', 'b2'])
    expect(await sides(repository, 'b1', 'previous')).toEqual(['b0', 'b1'])
    expect(await sides(repository, 'b1', 'next')).toEqual(['b1', 'b2'])
    expect(await sides(repository, 'b0', 'latest')).toEqual(['b0', 'b2'])
    const own = await ask(registry, path(repository, 'b2', 'latest'))
    expect(own.verdict).toBe('same-image')
  })

  it('none that has the same kernel, and none of another platform', async () => {
    const repository = await pushed(ONE, FREEBSD, TWO)
    expect(await sides(repository, 'b2', 'previous')).toEqual(['b0', 'b2'])
    expect(await refusal(repository, 'b1', 'previous')).toMatch(
      /^NOT_FOUND: .* has no earlier build with another kernel on freebsd/,
    )
    expect(await refusal(repository, 'b2', 'next')).toMatch(/no later build .* on debian-12,/)
  })

  it('an earlier build also when another platform has reproduced it since', async () => {
    const repository = await pushed(ONE, TWO)
    await sql(
      `insert into builds
              (repository_id, manifest_digest, kernel_digest, input_id, result, platform, builder_name)
       select repository_id, manifest_digest, kernel_digest, input_id, result, 'freebsd-14', 'orb'
         from builds b
        where repository_id = (select id from repositories where name = $1)
        order by position desc
        limit 1`,
      [repository],
    )
    expect((await ask(registry, `repositories/${repository}/builds`)).builds).toHaveLength(3)
    expect(await sides(repository, 'b1', 'previous')).toEqual(['b0', 'b1'])
  })

  it('none of another target', async () => {
    const repository = newRepository()
    for (const name of ['mini-net.hvt', 'mini-blk-net2.spt', 'mini-none.hvt']) {
      const form = new FormData()
      form.append('kernel', new Blob([new Uint8Array(fixture(`elf/${name}`))]), name)
      await postImage(registry, repository, `?tag=${name.replace('.', '-')}`, form)
    }
    expect(await sides(repository, 'mini-none-hvt', 'previous')).toEqual([
      'mini-net-hvt',
      'mini-none-hvt',
    ])
    expect(await refusal(repository, 'mini-blk-net2-spt', 'previous')).toMatch(
      /has no earlier build with another kernel on x86_64, for the same target and processor$/,
    )
  })

  it('none whose image was deleted', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'b0', ONE)
    const digest = await pushBuild(registry, repository, 'b1', OTHER_OUTPUT)
    await pushBuild(registry, repository, 'b2', TWO)
    await registry.request(`/v2/${repository}/manifests/${digest}`, { method: 'DELETE' })
    expect(await sides(repository, 'b2', 'previous')).toEqual(['b0', 'b2'])
  })
})

describe('an image that was copied to the repository', () => {
  it('has no build there, which the answer says', async () => {
    const source = newRepository()
    const repository = newRepository()
    const pushed = await pushLayers(registry, source, 'v1', [kernel()])
    const manifest = await registry.request(`/v2/${source}/manifests/v1`)
    const bytes = await manifest.text()
    const type = manifest.headers.get('content-type') ?? ''
    const layers = [...JSON.parse(bytes).layers, JSON.parse(bytes).config]
    for (const { digest } of layers) {
      const query = `mount=${digest}&from=${source}`
      await registry.request(`/v2/${repository}/blobs/uploads/?${query}`, { method: 'POST' })
    }
    const headers = { 'content-type': type }
    const put = { method: 'PUT', headers, body: bytes }
    expect((await registry.request(`/v2/${repository}/manifests/live`, put)).status).toBe(201)
    expect(pushed.status).toBe(201)
    expect(await refusal(repository, 'live', 'previous')).toMatch(/it was copied there/)
  })
})

it.each(['?with=v1', '?with=previous&with=next', '?with=previous&x=1'])(
  'compare%s is refused with the right names',
  async (query) => {
    const repository = await pushed(ONE)
    const answer = await registry.request(
      `/api/v1/repositories/${repository}/images/b0/compare${query}`,
    )
    expect(answer.status).toBe(400)
    expect(await messageOf(answer)).toMatch(/with/)
  },
)
