import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { formOf, postImage, pushBuild } from './image-fixtures.ts'

let registry: TestRegistry
let client: pg.Client

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})

afterAll(async () => {
  await client.end()
  await registry.close()
})

const ANSWERS = ['', '/compare/b', '/documents/cyclonedx', '/documents/spdx', '/documents/slsa']

/** Large enough for a process of its own. */
const MANY_PACKAGES = Buffer.from(
  Array.from({ length: 20_000 }, (_, index) => `p${index}=1.${index}\n`).join(''),
)

async function pushLarge(repository: string, tag: string): Promise<void> {
  const form = formOf(tag === 'a' ? 'hello-key-1' : 'hello-key-2', {
    'system-packages': MANY_PACKAGES,
  })
  expect((await postImage(registry, repository, `?tag=${tag}`, form)).status).toBe(201)
}

const pushUsual = (repository: string, tag: string) =>
  pushBuild(registry, repository, tag, tag === 'a' ? 'hello-key-1' : 'hello-key-2')

describe.each([
  ['a usual image', pushUsual],
  ['an image with a large list', pushLarge],
])('what is derived from %s', (_what, push) => {
  let repository: string
  const get = async (path: string) => {
    const answer = await registry.anonymous(`/api/v1/repositories/${repository}/images/a${path}`)
    return { status: answer.status, text: await answer.text() }
  }
  const factsAre = (facts: string) =>
    client.query(
      `update layer_analyses set facts = ${facts} where role in ('opam-switch', 'system-packages')`,
    )

  beforeAll(async () => {
    repository = newRepository()
    await push(repository, 'a')
    await push(repository, 'b')
  })

  it.each(ANSWERS)('(%s) is kept, and only for callers with the right to it', async (path) => {
    await client.query('alter table layer_analyses add column if not exists saved text')
    await client.query('update layer_analyses set saved = facts')
    const first = await get(path)
    expect(first.status).toBe(200)
    await factsAre('null')
    expect(await get(path)).toEqual(first)
    // Another analyzer makes other results.
    await client.query('update manifests set analyzer_version = analyzer_version + 1')
    const other = await get(path)
    expect(other.status).toBe(200)
    expect(other.text).not.toBe(first.text)
    await factsAre('saved')
    await client.query('update manifests set analyzer_version = analyzer_version - 1')
    expect(await get(path)).toEqual(first)
    const settings = `/api/v1/repositories/${repository}/settings`
    const become = (visibility: string) =>
      registry.request(settings, {
        method: 'PUT',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ visibility }),
      })
    expect((await become('private')).status).toBe(200)
    expect((await get(path)).status).toBe(401)
    expect((await become('public')).status).toBe(200)
    expect(await get(path)).toEqual(first)
  })

  it.each(['', '/documents/slsa'])(
    '(%s) shows the builder only to callers with a right',
    async (path) => {
      const answer = await registry.request(`/api/v1/repositories/${repository}/images/a${path}`)
      const withRight = await answer.text()
      expect(withRight).toMatch(/"builder":"admin"|\/actors\/admin/)
      expect((await get(path)).text).not.toContain('admin')
      expect(
        await (await registry.request(`/api/v1/repositories/${repository}/images/a${path}`)).text(),
      ).toBe(withRight)
    },
  )

  it('names the present tags', async () => {
    await get('')
    await push(repository, 'b')
    const moved = await registry.request(
      `/v2/${repository}/manifests/${JSON.parse((await get('')).text).digest}?tag=another`,
      {
        method: 'PUT',
        headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
        body: await (await registry.anonymous(`/v2/${repository}/manifests/a`)).text(),
      },
    )
    expect(moved.status).toBe(201)
    expect(JSON.parse((await get('')).text).tags).toEqual(['a', 'another'])
  })
})
