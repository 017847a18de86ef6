import type { Queryable } from './database.ts'

/**
 * The hash that the credential has from now on: `secretSha256` when it did not exist, and else the
 * one it had. Of replicas that start at once, one makes it.
 */
export async function ensureCredential(
  db: Queryable,
  name: string,
  secretSha256: Buffer,
): Promise<Buffer> {
  await db.query(
    `insert into credentials (name, kind, secret_sha256)
     values ($1, 'admin', $2)
         on conflict (name) do nothing`,
    [name, secretSha256],
  )
  const { rows } = await db.query<{ secretSha256: Buffer }>(
    `select secret_sha256 as "secretSha256"
       from credentials
      where name = $1`,
    [name],
  )
  const row = rows[0]
  if (row === undefined) throw new Error(`credential ${name} vanished while it was made`)
  return row.secretSha256
}
