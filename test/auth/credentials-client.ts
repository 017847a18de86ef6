import pg from 'pg'
import { expect } from 'vitest'
import { AccessTokens } from '../../src/auth/access-tokens.ts'
import { parseConfig } from '../../src/config/config.ts'
import { Database } from '../../src/db/database.ts'
import { findIssuer, openSigningKeys } from '../../src/server/signing-keys.ts'
import type { TestRegistry } from '../support/registry.ts'

export const basic = (user: string, secret: string) =>
  `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}`
export const bearer = (token: string) => `Bearer ${token}`

export type NewCredential = {
  repositories?: string[]
  actions?: string[]
  tags?: string[]
  networks?: string[]
  kind?: 'admin' | 'metrics'
  expiresAt?: string
}

let names = 0

/** Creates a credential through the API. */
export async function makeCredential(
  registry: TestRegistry,
  credential: NewCredential,
): Promise<{ name: string; secret: string }> {
  names += 1
  const name = `c${names}`
  const answer = await registry.request('/api/v1/credentials', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name, ...credential }),
  })
  expect(answer.status).toBe(201)
  return { name, secret: ((await answer.json()) as { secret: string }).secret }
}

/** Requests a token from /token. */
export async function requestToken(
  registry: TestRegistry,
  authorization: string | undefined,
  ...scopes: string[]
): Promise<string> {
  const query = new URLSearchParams(scopes.map((scope): [string, string] => ['scope', scope]))
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization }
  const answer = await registry.anonymous(`/token?${query}`, { headers })
  expect(answer.status).toBe(200)
  return ((await answer.json()) as { token: string }).token
}

export const claimsOf = (token: string) =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'))

/** Opens the registry's token minter, for tokens that it would not issue, such as expired ones. */
export async function openTokenMinter(registry: TestRegistry) {
  const config = parseConfig(registry.settings)
  const db = new Database({
    connection: registry.databaseUrl,
    connectionsMax: 2,
    onIdleError: () => {},
  })
  const { keys } = await openSigningKeys({ db, dataFolder: registry.folder }, config)
  const issuer = await findIssuer(db, config)
  return { db, tokens: new AccessTokens(keys, issuer), keys, issuer, close: () => db.close() }
}

/** Runs one statement on the registry's database. */
export async function sql<Row extends pg.QueryResultRow>(
  registry: Pick<TestRegistry, 'databaseUrl'>,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  try {
    return (await client.query<Row>(text, values)).rows
  } finally {
    await client.end()
  }
}
