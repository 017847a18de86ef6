import { afterAll, beforeAll, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { runExclusively } from '../../src/db/maintenance/jobs.ts'
import { createTestDatabase } from '../support/database.ts'

const JOB = 'a job of a test'
const RUNS = 50

let database: Awaited<ReturnType<typeof createTestDatabase>>
let db: Database

beforeAll(async () => {
  database = await createTestDatabase()
  db = new Database({ connection: database.url, connectionsMax: 4, onIdleError() {} })
})
afterAll(async () => {
  await db.close()
  await database.drop()
})

it('a job can run again as soon as it has ended, also with a failure', async () => {
  for (let run = 0; run < RUNS; run += 1) {
    // Connections are ready: the next run is sooner there than Postgres sees the end of the last one.
    await Promise.all([1, 2, 3].map(() => db.query('select pg_sleep(0.01)')))
    expect(await runExclusively(db, JOB, async () => run)).toBe(run)
    const failed = runExclusively(db, JOB, () => Promise.reject(new Error('failed')))
    await expect(failed).rejects.toThrow('failed')
  }
})

it('a job does not run twice at once, and others run beside it', async () => {
  const again = () => runExclusively(db, JOB, async () => 'twice')
  const other = () => runExclusively(db, 'another job', async () => 'beside')
  const results = await runExclusively(db, JOB, () => Promise.allSettled([again(), other()]))
  expect(results).toMatchObject([
    { status: 'rejected', reason: { message: `another process is running ${JOB}` } },
    { status: 'fulfilled', value: 'beside' },
  ])
})
