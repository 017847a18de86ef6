import pg from 'pg'
import type { TestRegistry } from '../support/registry.ts'

/** Sends one statement to the database of a registry, and returns its rows. */
export async function rowsOf<Row>(
  registry: Pick<TestRegistry, 'databaseUrl'>,
  text: string,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  try {
    return (await client.query(text, [...values])).rows as Row[]
  } finally {
    await client.end()
  }
}

/** A host with one unit `www` for each name, as its first report leaves it. */
export async function followTag(
  registry: Pick<TestRegistry, 'databaseUrl'>,
  repository: string,
  tag: string,
  hosts: readonly { name: string; labels?: Record<string, string>; isLost?: boolean }[],
): Promise<void> {
  await rowsOf(
    registry,
    `with hosts as (
       insert into hosts (name, state, trust, repositories, labels, tenders, seen_at, lost_at, created_by)
       select h.name, 'active', 'key', '{**}', coalesce(h.labels, '{}'),
              '[{"target":"hvt","abi":2,"architecture":"x86_64"}]', now(),
              case when h."isLost" then now() end, 'admin'
         from json_to_recordset($1) as h (name text, labels jsonb, "isLost" boolean)
       returning id
     )
     insert into units (host_id, name, repository, tag, state, boot_id, sequence, since)
     select id, 'www', $2, $3, 'absent', 'boot', 1, now()
       from hosts`,
    [JSON.stringify(hosts), repository, tag],
  )
}
