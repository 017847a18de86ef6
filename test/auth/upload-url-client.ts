import type pg from 'pg'
import { expect } from 'vitest'
import { Database } from '../../src/db/database.ts'
import type { TestRegistry } from '../support/registry.ts'

export type Headers = Record<string, string>

export const JSON_TYPE: Headers = { 'content-type': 'application/json' }

/** Headers of a request from this address. The registry must trust the proxy 127.0.0.1. */
export const from = (address: string): Headers => ({ 'x-forwarded-for': address })

export function basic(user: string, secret: string): Headers {
  return { authorization: `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}` }
}

let names = 0

/** Returns the name of a repository that no other test uses. */
export function newRepository(): string {
  names += 1
  return `uploads/r${names}`
}

export type CreatedUploadUrl = { url: string; expiresAt: string; repository: string; tag: string }

/** Requests an upload URL, by default as the administrator. */
export function requestUploadUrl(
  registry: TestRegistry,
  repository: string,
  tag: string,
  as: Headers = basic('admin', registry.password),
  body?: unknown,
): Promise<Response> {
  const path = `/api/v1/repositories/${repository}/tags/${tag}/upload-urls`
  const json = body === undefined ? {} : { body: JSON.stringify(body) }
  const headers = body === undefined ? as : { ...JSON_TYPE, ...as }
  return registry.anonymous(path, { method: 'POST', ...json, headers })
}

/** Creates an upload URL. */
export async function createUploadUrl(
  registry: TestRegistry,
  repository: string,
  tag = 'v1',
  as?: Headers,
  body?: unknown,
): Promise<CreatedUploadUrl> {
  const answer = await requestUploadUrl(registry, repository, tag, as, body)
  expect(answer.status).toBe(201)
  expect(answer.headers.get('cache-control')).toBe('no-store')
  return (await answer.json()) as CreatedUploadUrl
}

/** Sends a file to an upload URL. */
export function put(
  url: string,
  body: RequestInit['body'] = 'a kernel',
  headers: Headers = {},
): Promise<Response> {
  const duplex = body instanceof ReadableStream ? { duplex: 'half' } : {}
  const init = { method: 'PUT', body, ...duplex } as RequestInit
  return fetch(url, { ...init, headers: { 'content-type': '', ...headers } })
}

/** Sends a file that ends when the test calls `end`. */
export function putSlowly(url: string, text = 'a kernel') {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
  const writer = writable.getWriter()
  void writer.write(Buffer.from(text))
  return { answer: put(url, readable), end: () => writer.close() }
}

/** Creates a builder that may push below `uploads/`. */
export async function makeBuilder(
  registry: TestRegistry,
  name: string,
  more: Record<string, unknown> = {},
): Promise<Headers> {
  const request = { name, repositories: ['uploads/**'], actions: ['push'], ...more }
  const answer = await registry.request('/api/v1/credentials', {
    method: 'POST',
    headers: JSON_TYPE,
    body: JSON.stringify(request),
  })
  expect(answer.status).toBe(201)
  return basic(name, ((await answer.json()) as { secret: string }).secret)
}

export async function changeSettings(
  registry: TestRegistry,
  repository: string,
  settings: Record<string, unknown>,
): Promise<void> {
  const answer = await registry.request(`/api/v1/repositories/${repository}/settings`, {
    method: 'PUT',
    headers: JSON_TYPE,
    body: JSON.stringify(settings),
  })
  expect(answer.status).toBe(200)
}

export async function tagsOf(registry: TestRegistry, repository: string): Promise<unknown> {
  const answer = await registry.request(`/v2/${repository}/tags/list`)
  return ((await answer.json()) as { tags?: unknown }).tags
}

/** Returns the number of uploads in the repository. */
export async function uploadsIn(client: pg.Client, repository: string): Promise<number> {
  const { rows } = await client.query(
    'select u.id from uploads u join repositories r on r.id = u.repository_id where r.name = $1',
    [repository],
  )
  return rows.length
}

/** Returns the audit entries of the repository, oldest first. */
export async function auditOf(client: pg.Client, repository: string) {
  const { rows } = await client.query(
    `select action, decision, actor, origin, address, tags, digest, detail
       from audit
      where repository = $1
      order by id`,
    [repository],
  )
  return rows
}

/** Runs `work` with a database connection of its own. */
export async function withDatabase(
  registry: TestRegistry,
  work: (db: Database) => Promise<void>,
): Promise<void> {
  const connection = registry.databaseUrl
  const db = new Database({ connection, connectionsMax: 2, onIdleError: () => {} })
  try {
    await work(db)
  } finally {
    await db.close()
  }
}
