import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { afterEach, describe, expect, it } from 'vitest'
import { NoAnswerError } from '../support/raw-client.ts'
import { Ledger, randomFrom } from './acknowledged-pushes.ts'
import { KillableServer } from './killable-server.ts'
import { POINTS, type Point, Pusher } from './pusher.ts'
import { type Resumed, Verifier } from './verify.ts'

const CLIENTS = 4
const RANDOM_ROUNDS = 8
const LIFE_MILLISECONDS_MAX = 250
// A commit takes some milliseconds: the kill falls before, into and after it.
const COMMIT_MILLISECONDS = 8
const seed = Number(process.env.CRASH_SEED ?? Date.now() % 1_000_000)

let server: KillableServer
let ledgers: Ledger[]
let random: () => number
const resumed: Resumed[] = []

async function begin(database: 'embedded' | 'external'): Promise<void> {
  random = randomFrom(seed)
  server = await KillableServer.create(database)
  ledgers = Array.from({ length: CLIENTS }, (_, index) => new Ledger(`crash/client-${index}`))
  await server.start()
}

afterEach(async () => {
  await server.dispose()
})

/** Lets clients push until the process dies: when the first one reaches `point`, or at any time. */
async function pushUntilKilled(point: Point | undefined, kill: () => void): Promise<void> {
  let dead = false
  const die = async (milliseconds: number): Promise<void> => {
    await delay(milliseconds)
    dead = true
    kill()
  }
  let dying: Promise<void> | undefined
  const failures: unknown[] = []
  const pushers = ledgers.map((ledger, index) => {
    const others = ledgers.filter((other) => other !== ledger)
    return new Pusher(server.url, ledger, others, random, (reached) => {
      if (index !== 0 || reached !== point || dying !== undefined) return
      dying = die(reached.endsWith('sent') ? random() * COMMIT_MILLISECONDS : random() * 2)
      // In the middle of a body, and after an answer, nothing more is sent before the end.
      return reached.endsWith('sent') ? undefined : dying
    })
  })
  if (point === undefined) dying = die(random() * LIFE_MILLISECONDS_MAX)
  await Promise.all(
    pushers.map(async (pusher, index) => {
      try {
        while (!dead && failures.length === 0) {
          if (index === 0 && point !== undefined) await pusher.everything()
          else await pusher.step()
        }
      } catch (error) {
        const ended =
          error instanceof NoAnswerError || (error as { code?: unknown }).code !== undefined
        if (!ended || !dead) failures.push(error)
      } finally {
        pusher.close()
      }
    }),
  )
  await dying
  if (!dead) kill()
  await server.ended()
  if (failures.length > 0) throw new AggregateError(failures, `${failures[0]}\n${server.errors}`)
}

/** Statements that the dead process had sent still run to their end in Postgres. */
async function statementsEnded(db: pg.Client, before: Date): Promise<void> {
  await expect
    .poll(
      async () => {
        const { rows } = await db.query(
          `select pid
             from pg_stat_activity
            where datname = current_database()
              and application_name = 'rookery'
              and backend_start < $1`,
          [before],
        )
        return rows.length
      },
      { interval: 5, timeout: 10_000 },
    )
    .toBe(0)
}

async function restartAndVerify(postgresDied = false): Promise<void> {
  const before = new Date()
  await server.start()
  const db = await server.database()
  const verifier = new Verifier(server, db, postgresDied)
  try {
    await statementsEnded(db, before)
    await verifier.verify(ledgers)
    server.expectNoErrors()
  } catch (cause) {
    throw new Error(`${cause}; the server said: ${server.errors}`, { cause })
  } finally {
    resumed.push(...verifier.resumed)
    verifier.close()
    await db.end()
  }
}

async function verifyAll(): Promise<void> {
  const db = await server.database()
  const verifier = new Verifier(server, db)
  await verifier.verifyAll(ledgers)
  verifier.close()
  await db.end()
}

describe(`a registry that is killed (CRASH_SEED=${seed})`, () => {
  it('has everything that was acknowledged, at every stage of a push', async () => {
    await begin('external')
    const rounds = [...POINTS, ...POINTS.filter((point) => point.endsWith('sent'))]
    for (const point of rounds) {
      await pushUntilKilled(point, () => server.signal('SIGKILL'))
      await restartAndVerify()
    }
    await verifyAll()
    report(rounds.length)
  }, 180_000)

  it('has everything that was acknowledged, at a random time', async () => {
    await begin('external')
    for (let round = 0; round < RANDOM_ROUNDS; round += 1) {
      await pushUntilKilled(undefined, () => server.signal('SIGKILL'))
      await restartAndVerify()
    }
    await verifyAll()
    report(RANDOM_ROUNDS)
  }, 180_000)

  it('has it with the embedded Postgres too, which survives', async () => {
    await begin('embedded')
    const rounds = [undefined, 'PUT sent', 'manifest sent', 'PATCH 202'] as const
    for (const point of rounds) {
      await pushUntilKilled(point, () => server.signal('SIGKILL'))
      await restartAndVerify()
    }
    await verifyAll()
    report(rounds.length)
  }, 180_000)

  it('has it when the embedded Postgres is killed with it', async () => {
    await begin('embedded')
    const rounds = [undefined, 'PUT sent', 'manifest sent', 'manifest delete sent'] as const
    for (const point of rounds) {
      const postmaster = await server.postmaster()
      await pushUntilKilled(point, () => {
        server.signal('SIGKILL')
        process.kill(postmaster, 'SIGKILL')
      })
      await restartAndVerify(true)
    }
    await verifyAll()
    report(rounds.length)
  }, 180_000)
})

function report(rounds: number): void {
  const sum = (count: (ledger: Ledger) => number) =>
    ledgers.reduce((total, ledger) => total + count(ledger), 0)
  const ways = new Map<Resumed, number>()
  for (const way of resumed.splice(0)) ways.set(way, (ways.get(way) ?? 0) + 1)
  const uploads = [...ways].map(([way, count]) => `${count} ${way}`)
  process.stdout.write(
    `${rounds} kills: ${sum(({ blobs }) => blobs.size)} blobs, ` +
      `${sum(({ position }) => position.manifests.size)} manifests, ` +
      `${sum(({ removed }) => removed.size)} deleted; ` +
      `interrupted uploads: ${uploads.join(', ')}\n`,
  )
}
