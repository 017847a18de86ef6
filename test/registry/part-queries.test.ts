import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Transaction } from '../../src/db/database.ts'
import {
  listTagsOfPart,
  lockManifestsOfPart,
  type Part,
} from '../../src/db/registry/tag-contents.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

// Ten times as many pages would be read if the edges of other repositories were.
const PAGES_MAX = 400
const OTHERS = 5_000

let database: TestDatabase
let client: pg.Client
const shared = digestOf(Buffer.from('shared'))

/** One repository has one image; another has many images with the same layer, and as many indexes of one image. */
beforeAll(async () => {
  database = await createTestDatabase()
  client = new pg.Client(database.url)
  await client.connect()
  await client.query(
    "insert into repositories (name, visibility) values ('mine', 'public'), ('others', 'public')",
  )
  await client.query("insert into blobs (digest, size, storage_key) values ($1, 6, 'k')", [shared])
  await client.query(
    `insert into manifests (repository_id, digest, media_type, bytes, pushed_by)
     select r.id, case when n = 0 then $1 else 'sha256:' || lpad(n::text, 64, '0') end, 'a/b', 'x', 'somebody'
       from repositories r
      cross join generate_series(0, $2) n
      where r.name = 'others'
         or n < 2`,
    [shared, OTHERS],
  )
  // As the previous release writes edges: without their repository.
  await client.query(
    `insert into manifest_blobs (manifest_id, blob_id)
     select m.id, b.id
       from manifests m, blobs b
      where m.digest <> b.digest`,
  )
  await client.query(
    `insert into manifest_children (manifest_id, digest)
     select id, $1
       from manifests
      where digest <> $1`,
    [shared],
  )
  await client.query(
    `insert into tags (repository_id, name, digest)
     select repository_id, 'live', digest
       from manifests
      where digest like '%0001'`,
  )
  await client.query('analyze')
}, 60_000)

afterAll(async () => {
  await client.end()
  await database.drop()
})

it.each(['blob', 'manifest'] as const)(
  'the tags that need a %s are found without the rows of other repositories',
  async (kind) => {
    const part: Part = { repositoryId: 1, kind, digest: shared }
    const pages: number[] = []
    // Runs each statement, and counts the pages that it reads.
    const tx = {
      async query(text: string, values: unknown[]) {
        const { rows } = await client.query(
          `explain (analyze, buffers, format json) ${text}`,
          values,
        )
        const { Plan } = rows[0]['QUERY PLAN'][0]
        pages.push(Plan['Shared Hit Blocks'] + Plan['Shared Read Blocks'])
        return client.query(text, values)
      },
    } as unknown as Transaction
    expect((await listTagsOfPart(tx, part)).tags).toMatchObject([{ tag: 'live', contains: true }])
    expect(await lockManifestsOfPart(tx, part)).toHaveLength(1)
    expect(pages).toHaveLength(2)
    for (const count of pages) expect(count).toBeLessThan(PAGES_MAX)
  },
)
