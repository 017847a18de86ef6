import type { Queryable } from '../database.ts'

export type TrustPolicyRow = {
  readonly id: number
  readonly name: string
  readonly issuer: string
  readonly audience: string
  /** The globs of each claim. Every claim must match one of its globs. */
  readonly conditions: Readonly<Record<string, readonly string[]>>
  readonly repositories: readonly string[]
  readonly actions: readonly string[]
  /** Patterns of the tags that may be set or removed. Null: any tag. */
  readonly tags: readonly string[] | null
  readonly tokenSeconds: number
  readonly createdBy: string
  readonly createdAt: Date
}

const POLICY_COLUMNS = `id, name, issuer, audience, conditions, repositories, actions, tags,
  token_seconds as "tokenSeconds", created_by as "createdBy", created_at as "createdAt"`

export type NewTrustPolicy = Omit<TrustPolicyRow, 'id' | 'createdAt'>

/** Adds a policy. Returns undefined when the name is in use. */
export async function addTrustPolicy(
  db: Queryable,
  policy: NewTrustPolicy,
): Promise<TrustPolicyRow | undefined> {
  const { rows } = await db.query<TrustPolicyRow>(
    `insert into trust_policies
            (name, issuer, audience, conditions, repositories, actions, tags, token_seconds, created_by)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (name) do nothing
     returning ${POLICY_COLUMNS}`,
    [
      policy.name,
      policy.issuer,
      policy.audience,
      JSON.stringify(policy.conditions),
      policy.repositories,
      policy.actions,
      policy.tags,
      policy.tokenSeconds,
      policy.createdBy,
    ],
  )
  return rows[0]
}

/** Lists policies after `last`, by name. */
export async function listTrustPolicies(
  db: Queryable,
  last: string,
  limit: number,
): Promise<TrustPolicyRow[]> {
  const { rows } = await db.query<TrustPolicyRow>(
    `select ${POLICY_COLUMNS}
       from trust_policies
      where name > $1
      order by name
      limit $2`,
    [last, limit],
  )
  return rows
}

/** Returns the policy of that name. */
export async function findTrustPolicy(
  db: Queryable,
  name: string,
): Promise<TrustPolicyRow | undefined> {
  const { rows } = await db.query<TrustPolicyRow>(
    `select ${POLICY_COLUMNS}
       from trust_policies
      where name = $1`,
    [name],
  )
  return rows[0]
}

/** Lists the policies for exactly this issuer, by name. */
export async function listTrustPoliciesOfIssuer(
  db: Queryable,
  issuer: string,
  limit: number,
): Promise<TrustPolicyRow[]> {
  const { rows } = await db.query<TrustPolicyRow>(
    `select ${POLICY_COLUMNS}
       from trust_policies
      where issuer = $1
      order by name
      limit $2`,
    [issuer, limit],
  )
  return rows
}

/** Returns the number of policies for this issuer. */
export async function countTrustPoliciesOfIssuer(db: Queryable, issuer: string): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*) as count
       from trust_policies
      where issuer = $1`,
    [issuer],
  )
  return rows[0]?.count ?? 0
}

/**
 * Removes a policy and adds a revocation that every replica reads. Returns false when there is no policy of
 * that name.
 */
export async function removeTrustPolicy(
  db: Queryable,
  name: string,
  keepSeconds: number,
): Promise<boolean> {
  const { rows } = await db.query<{ id: number }>(
    `with removed as (
       delete from trust_policies
        where name = $1
       returning id
     ), revocation as (
       insert into revocations (subject, expires_at)
       select 'policy:' || id, now() + make_interval(secs => $2)
         from removed
           on conflict (subject) do update
          set revoked_at = now(),
              expires_at = excluded.expires_at
     )
     select id
       from removed`,
    [name, keepSeconds],
  )
  return rows.length > 0
}

/** Records that a token was exchanged. Returns false when it was before: of concurrent calls one succeeds. */
export async function markIdentityTokenUsed(
  db: Queryable,
  issuer: string,
  tokenId: string,
  expiresAt: Date,
): Promise<boolean> {
  const { rows } = await db.query<{ tokenId: string }>(
    `insert into used_identity_tokens (issuer, token_id, expires_at)
     values ($1, $2, $3)
         on conflict (issuer, token_id) do nothing
     returning token_id as "tokenId"`,
    [issuer, tokenId, expiresAt],
  )
  return rows.length > 0
}

const REMOVED_AT_ONCE = 1000

/** Removes expired records, at most 1000. Returns how many were removed. */
export async function removeExpiredIdentityTokens(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ tokenId: string }>(
    `delete from used_identity_tokens
      where (issuer, token_id) in (
        select issuer, token_id
          from used_identity_tokens
         where expires_at < now()
         limit $1
      )
     returning token_id as "tokenId"`,
    [REMOVED_AT_ONCE],
  )
  return rows.length
}
