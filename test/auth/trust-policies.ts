import pg from 'pg'
import { TrustPolicies, type TrustPolicyRequest } from '../../src/auth/trust/policies.ts'
import { Database } from '../../src/db/database.ts'
import { RegistryError } from '../../src/oci/errors.ts'
import { GuardedClient } from '../../src/outgoing/client.ts'
import { LOOPBACK } from '../outgoing/loopback-servers.ts'
import { createTestDatabase } from '../support/database.ts'
import { AUDIENCE, type TestIssuer } from './issuer.ts'

export const ACTOR = {
  name: 'tester',
  origin: null,
  tokenId: null,
  keyId: null,
  address: null,
  requestId: null,
}

export type Trust = {
  readonly db: Database
  readonly url: string
  readonly policies: TrustPolicies
  /** Moves the clock of the policies. */
  advance(seconds: number): void
  /** Returns the time of that clock. */
  now(): number
  /** Opens another process on the same database, with no cached keys and these allowed networks. */
  another(allowed?: readonly string[]): TrustPolicies
  /** Runs a query. */
  rows(statement: string): Promise<Record<string, unknown>[]>
  close(): Promise<void>
}

/** Opens trust policies on a new database, with a clock that tests move. */
export async function openTrust(): Promise<Trust> {
  const database = await createTestDatabase()
  const db = new Database({ connection: database.url, connectionsMax: 4, onIdleError: () => {} })
  const clients: GuardedClient[] = []
  let advanced = 0
  const now = () => Date.now() + advanced
  const another = (allowed: readonly string[] = LOOPBACK) => {
    const client = new GuardedClient({
      allowed,
      requestMilliseconds: 1000,
      hint: 'ask the operator',
    })
    clients.push(client)
    return new TrustPolicies({ db, client, now })
  }
  return {
    db,
    url: database.url,
    policies: another(),
    now,
    advance(seconds) {
      advanced += seconds * 1000
    },
    another,
    async rows(statement) {
      const client = new pg.Client(database.url)
      await client.connect()
      const { rows } = await client.query(statement)
      await client.end()
      return rows
    },
    async close() {
      for (const client of clients) client.close()
      await db.close()
      await database.drop()
    },
  }
}

let made = 0

/** Returns a valid policy request with changes. */
export function policyRequest(
  issuer: TestIssuer,
  changes: Partial<TrustPolicyRequest> = {},
): TrustPolicyRequest {
  made += 1
  return {
    name: `policy-${made}`,
    issuer: issuer.url,
    audience: AUDIENCE,
    conditions: { repository: 'octo/kernel' },
    repositories: ['builds/octo'],
    actions: ['push', 'pull'],
    tags: undefined,
    tokenSeconds: undefined,
    ...changes,
  }
}

/** Returns the result, or the code and message of the error. */
export async function resultOf<T>(
  work: Promise<T>,
): Promise<T | { code: string; message: string }> {
  try {
    return await work
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error
    return { code: error.code, message: error.message }
  }
}
