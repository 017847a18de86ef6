import { basic, makeCredential, type NewCredential, sql } from '../auth/credentials-client.ts'
import type { TestRegistry } from '../support/registry.ts'

/**
 * Revokes as another replica does that this process does not know yet: the revocation is in the database,
 * and too old to be in the next reading of the list. The credential passes the door.
 */
export async function revokeUnnoticed(registry: TestRegistry, subject: string): Promise<void> {
  await sql(
    registry,
    `insert into revocations (subject, revoked_at, expires_at)
     values ($1, now() - interval '1 hour', now() + interval '1 day')`,
    [subject],
  )
}

/** Creates a credential. `origin` is the subject of the revocation list that ends it. */
export async function credentialWithOrigin(registry: TestRegistry, credential: NewCredential) {
  const { name, secret } = await makeCredential(registry, credential)
  const [row] = await sql<{ id: string }>(registry, 'select id from credentials where name = $1', [
    name,
  ])
  const authorization = basic(name, secret)
  return { name, authorization, origin: `credential:${row?.id}` }
}
