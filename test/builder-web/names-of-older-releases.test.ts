import { afterAll, beforeAll, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { migrate } from '../../src/db/migrations.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

let database: TestDatabase
let db: Database

beforeAll(async () => {
  database = await createTestDatabase('template1')
  db = new Database({ connection: database.url, connectionsMax: 2, onIdleError() {} })
})
afterAll(async () => {
  await db.close()
  await database.drop()
})

it('a database with names of jobs keeps those of repositories with builds', async () => {
  await migrate(db, '0023-job-names.sql')
  await db.query(
    `insert into repositories (id, name, visibility)
     overriding system value
     values (1, 'old', 'private'), (2, 'web/old', 'public'), (3, 'web/empty', 'public'), (4, 'web/gone', 'public'),
            (5, 'web/site', 'public'), (6, 'site', 'private')`,
  )
  await db.query(
    `insert into builds (repository_id, manifest_digest, kernel_digest, result, builder_name)
     select id, 'sha256:m' || id, 'sha256:k', 'succeeded', 'admin'
       from repositories
      where id <> 3
      order by id desc`,
  )
  await db.query(
    `update repositories
        set name = '~4',
            visibility = 'private',
            deleted_at = now(),
            deleted_name = name,
            deleted_visibility = visibility
      where id = 4`,
  )
  await migrate(db)
  const { rows } = await db.query(
    `select n.name, n.repository, n.followed, (
              select min(b.position)
                from repositories r
                join builds b on b.repository_id = r.id
               where r.name = n.name
            ) < n.since as "exactIsOlder"
       from job_names n
      order by n.name`,
  )
  expect(rows).toEqual([
    { name: 'gone', repository: 'web/gone', followed: true, exactIsOlder: null },
    { name: 'old', repository: 'web/old', followed: true, exactIsOlder: true },
    { name: 'site', repository: 'web/site', followed: true, exactIsOlder: false },
  ])
  const { rows: first } = await db.query(
    `select r.id, b.public_since = b.position as "isPublic"
       from builds b
       join repositories r on r.id = b.repository_id
      order by r.id`,
  )
  expect(first).toEqual([
    { id: 1, isPublic: null },
    { id: 2, isPublic: true },
    { id: 4, isPublic: true },
    { id: 5, isPublic: true },
    { id: 6, isPublic: null },
  ])
})
