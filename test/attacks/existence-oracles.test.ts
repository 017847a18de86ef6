import fc from 'fast-check'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { type Glob, matchesAnyGlob } from '../../src/oci/glob.ts'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const NAMES = [
  'a',
  'b',
  'ab',
  'aa',
  'a/a',
  'a/b',
  'ab/a',
  'a/b/a',
  'a/bb/a',
  'b/a',
  'b/a/b',
  'a.b/a-b',
]
const SECRET = Buffer.from('a layer of a private repository')

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_DEFAULT_VISIBILITY: 'private' })
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  await client.query(
    `insert into repositories (name, visibility, permanent, configured)
     select name, 'private', true, true
       from unnest($1::text[]) as n (name)`,
    [NAMES],
  )
  await client.end()
  const path = `/v2/a/b/blobs/uploads/?digest=${digestOf(SECRET)}`
  expect((await registry.request(path, { method: 'POST', body: SECRET })).status).toBe(201)
})
afterAll(() => registry.close())

async function asCredential(repositories: string[], actions: string[]) {
  const { name, secret } = await makeCredential(registry, { repositories, actions })
  return (path: string, init: RequestInit = {}) =>
    registry.anonymous(path, { ...init, headers: { authorization: basic(name, secret) } })
}

describe('the catalog of a credential', () => {
  it('has the private repositories that its patterns match, and no others, for any patterns', async () => {
    const text = fc
      .string({ unit: fc.constantFrom('a', 'b', '*', '**', '/'), minLength: 1, maxLength: 5 })
      .filter((glob) => /^[a-z*]+(?:\/[a-z*]+)*$/.test(glob))
    const patterns = fc.array(text, { minLength: 1, maxLength: 3 })
    await fc.assert(
      fc.asyncProperty(patterns, async (globs) => {
        const call = await asCredential(globs, ['pull'])
        const answer = await call('/v2/_catalog')
        const { repositories } = (await answer.json()) as { repositories: string[] }
        const allowed = NAMES.filter((name) => matchesAnyGlob(globs as Glob[], name))
        expect(repositories).toEqual(allowed.sort())
        const first = await call('/v2/_catalog?n=1')
        const page = (await first.json()) as { repositories: string[] }
        expect(page.repositories).toEqual(allowed.slice(0, 1))
        expect(first.headers.has('link')).toBe(allowed.length > 1)
      }),
      { numRuns: 60 },
    )
  })
})

describe('an upload of bytes that only a private repository has', () => {
  it('is answered without the deletion of the second copy', async () => {
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const deleted: string[] = []
    const { query } = Database.prototype
    const spy = vi.spyOn(Database.prototype, 'query').mockImplementation(async function (
      this: Database,
      text,
      values,
    ) {
      if (text.startsWith('delete from deletion_queue')) {
        deleted.push(text)
        await held
      }
      return Reflect.apply(query, this, [text, values])
    })
    const objects = async () => (await registry.storedObjects()).length
    const before = await objects()
    try {
      const call = await asCredential(['fresh/**'], ['push'])
      const started = await call('/v2/fresh/www/blobs/uploads/', { method: 'POST' })
      const finish = `${started.headers.get('location')}?digest=${digestOf(SECRET)}`
      expect((await call(finish, { method: 'PUT', body: SECRET })).status).toBe(201)
      const whole = `/v2/fresh/two/blobs/uploads/?digest=${digestOf(SECRET)}`
      expect((await call(whole, { method: 'POST', body: SECRET })).status).toBe(201)
      await expect.poll(() => deleted.length).toBe(2)
    } finally {
      release()
      spy.mockRestore()
    }
    await expect.poll(objects).toBe(before)
  })
})

describe('a mount of a blob that only a private repository has', () => {
  it('is answered like the mount of a blob that nobody has', async () => {
    const call = await asCredential(['mine/**'], ['push', 'pull'])
    const none = digestOf(Buffer.from('nobody has this'))
    const answers: string[] = []
    for (const digest of [digestOf(SECRET), none]) {
      for (const from of ['', '&from=a/b', '&from=no/such']) {
        const path = `/v2/mine/www/blobs/uploads/?mount=${digest}${from}`
        const { status, headers } = await call(path, { method: 'POST' })
        const names = [...headers.keys()].sort().join()
        answers.push(`${status} ${names} ${headers.get('range')}`)
      }
    }
    expect(new Set(answers).size).toBe(1)
    expect(answers[0]).toMatch(/^202 /)
  })

  it.each([
    ['a/b', 201],
    ['a/*', 201],
    ['a/**', 201],
    ['*/b', 201],
    ['**/b', 201],
    ['b/**', 202],
    ['a/*/*', 202],
  ])('needs the right to pull from it: %s, %i', async (pattern, status) => {
    for (const query of ['', '&from=a/b']) {
      // A repository of its own, because the earlier ones have the blob by now.
      const target = newRepository()
      const call = await asCredential([target, pattern], ['push', 'pull'])
      const path = `/v2/${target}/blobs/uploads/?mount=${digestOf(SECRET)}${query}`
      expect((await call(path, { method: 'POST' })).status).toBe(status)
    }
  })
})
