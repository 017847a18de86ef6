import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

/**
 * Round trips on another connection, after which this process has long noticed the end of a broken
 * one.
 */
const ROUND_TRIPS = 20
const ENDED_MILLISECONDS_MAX = 5_000

let database: TestDatabase
let db: Database
let operator: pg.Client

beforeAll(async () => {
  database = await createTestDatabase()
  db = new Database({ connection: database.url, connectionsMax: 2, onIdleError: () => {} })
  operator = new pg.Client(database.url)
  await operator.connect()
})

afterAll(async () => {
  await db.close()
  await operator.end()
  await database.drop()
})

/** Ends a connection as a restart of Postgres does, and waits until this process notices. */
async function breakConnection(pid: number | undefined): Promise<void> {
  await operator.query('select pg_terminate_backend($1)', [pid])
  const left = async () => {
    const text = 'select pid from pg_stat_activity where pid = $1'
    return (await operator.query(text, [pid])).rows.length
  }
  await expect.poll(left, { interval: 5, timeout: ENDED_MILLISECONDS_MAX }).toBe(0)
  for (let trip = 0; trip < ROUND_TRIPS; trip += 1) await operator.query('select 1')
}

/** Errors that would have ended the process. */
async function uncaughtDuring(work: () => Promise<void>): Promise<unknown[]> {
  const listeners = process.listeners('uncaughtException')
  const caught: unknown[] = []
  const listen = (error: unknown) => void caught.push(error)
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', listen)
  try {
    await work()
  } finally {
    process.off('uncaughtException', listen)
    for (const listener of listeners) process.on('uncaughtException', listener)
  }
  return caught
}

/** Runs a transaction whose connection breaks between two of its statements; returns the error. */
async function brokenTransaction(): Promise<unknown> {
  return db
    .transaction(async (tx) => {
      const { rows } = await tx.query<{ pid: number }>('select pg_backend_pid() as pid')
      await breakConnection(rows[0]?.pid)
      await tx.query('select 1 as one')
    })
    .catch((error: unknown) => error)
}

describe('a connection that breaks', () => {
  it('in the middle of a transaction does not end the process', async () => {
    expect(await uncaughtDuring(async () => void (await brokenTransaction()))).toEqual([])
  })

  it('in the middle of a transaction throws UNAVAILABLE, which clients retry', async () => {
    let thrown: unknown
    await uncaughtDuring(async () => {
      thrown = await brokenTransaction()
    })
    expect(thrown).toMatchObject({ name: 'RegistryError', code: 'UNAVAILABLE' })
    expect(thrown).toHaveProperty('data.retryAfterSeconds')
  })

  it('while it holds the lock of a long job does not end the process', async () => {
    const uncaught = await uncaughtDuring(async () => {
      const client = await db.session()
      const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
      await breakConnection(rows[0]?.pid)
      client.release(true)
    })
    expect(uncaught).toEqual([])
  })

  it('while it is idle has no effect', async () => {
    const { rows } = await db.query<{ pid: number }>('select pg_backend_pid() as pid')
    expect(await uncaughtDuring(() => breakConnection(rows[0]?.pid))).toEqual([])
    expect((await db.query('select 1 as one')).rows).toEqual([{ one: 1 }])
  })
})
