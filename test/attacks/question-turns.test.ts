import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { QUESTION_CONNECTIONS, type QuestionQueryable, Questions } from '../../src/db/questions.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'

const STATEMENT_MILLISECONDS = 5
/** A turn has at most 50 ms of statements. */
const STATEMENTS_A_TURN_MAX = 10
/** A fifth of a processor, and what a timer that fires early adds. */
const SHARE_MAX = 0.25
const ASKING_MILLISECONDS = 500
/** A busy machine may stop a round for longer than the turn. */
const ROUNDS_MAX = 10

let database: TestDatabase
let db: Database
let questions: Questions

beforeAll(async () => {
  database = await createTestDatabase()
  const options = { connection: database.url, onIdleError: () => {} }
  db = new Database({ ...options, connectionsMax: 2 })
  questions = new Questions(db, options)
})

afterAll(async () => {
  await questions.close()
  await db.close()
  await database.drop()
})

type Asked = QuestionQueryable & {
  /** The milliseconds of each statement. */
  readonly spent: number[]
}

/** Begins a question. `admit` receives the number of its statements so far. */
function ask(client: string, admit: (statements: number) => void = () => {}): Asked {
  const spent: number[] = []
  const check = () => admit(spent.length)
  const question = questions.of({
    client,
    signal: new AbortController().signal,
    admit: check,
    admitSlowly: async () => check(),
    spend: (milliseconds) => spent.push(milliseconds),
  })
  return { ...question, spent }
}

function work(question: Asked, milliseconds = STATEMENT_MILLISECONDS): Promise<unknown> {
  return question.query('select pg_sleep($1)', [milliseconds / 1000])
}

/** Occupies all connections but one until the end of the test. */
async function occupyOthers(): Promise<void> {
  const lock = await db.session()
  await lock.query('select pg_advisory_lock(1)')
  const others = Array.from({ length: QUESTION_CONNECTIONS - 1 }, (_, index) =>
    ask(`other ${index}`).query('select pg_advisory_lock_shared(1)'),
  )
  const waiting = async () => {
    const { rows } = await db.query(`select pid from pg_locks where not granted`)
    return rows.length
  }
  await expect.poll(waiting, { interval: 5 }).toBe(others.length)
  onTestFinished(async () => {
    lock.release(true)
    await Promise.all(others)
  })
}

describe('the turn of a question', () => {
  it.each(['another client', 'the same client'])(
    'has no rest between its statements, also when %s waits',
    async (waiting) => {
      await occupyOthers()
      let order: string[] = []
      for (let round = 0; round < ROUNDS_MAX && order.at(-1) !== 'other'; round += 1) {
        order = []
        const long = ask('long')
        await work(long)
        const other = ask(waiting === 'the same client' ? 'long' : 'other')
        const answered = work(other).then(() => order.push('other'))
        for (let count = 0; count < 3; count += 1) {
          await work(long)
          order.push('long')
        }
        await answered
      }
      expect(order).toEqual(['long', 'long', 'long', 'other'])
    },
  )

  it('is one for statements that the question sends together', async () => {
    await occupyOthers()
    let order: string[] = []
    for (let round = 0; round < ROUNDS_MAX && order.at(-1) !== 'other'; round += 1) {
      order = []
      const long = ask('long')
      await work(long)
      const together = Array.from({ length: 3 }, () => work(long).then(() => order.push('long')))
      await Promise.all([...together, work(ask('other')).then(() => order.push('other'))])
    }
    expect(order).toEqual(['long', 'long', 'long', 'other'])
  })

  it('fails one statement alone of those that are sent together', async () => {
    const question = ask('long')
    const [first, second] = await Promise.allSettled([
      question.query('select 1 / 0'),
      question.query<{ two: number }>('select 2 as two'),
    ])
    expect(first.status).toBe('rejected')
    expect(second).toMatchObject({ status: 'fulfilled', value: { rows: [{ two: 2 }] } })
  })

  it('ends while the question does something else', async () => {
    await occupyOthers()
    const long = ask('long')
    await work(long)
    await work(ask('other'))
    await work(long)
    expect(long.spent).toHaveLength(2)
  })

  it('ends after many statements, so that others have theirs', async () => {
    await occupyOthers()
    const long = ask('long')
    await work(long)
    let isAnswered = false
    const other = work(ask('other')).then(() => {
      isAnswered = true
    })
    for (let count = 0; count < 5 * STATEMENTS_A_TURN_MAX && !isAnswered; count += 1) {
      await work(long)
    }
    expect(isAnswered).toBe(true)
    // The statement after the turn waits for the other client.
    expect(long.spent.length).toBeLessThanOrEqual(STATEMENTS_A_TURN_MAX + 1)
    await other
  })

  it('counts each of its statements, and ends when one is refused', async () => {
    const refusal = new Error('refused')
    const question = ask('client', (statements) => {
      if (statements === 2) throw refusal
    })
    await work(question)
    await work(question)
    await expect(work(question)).rejects.toBe(refusal)
    expect(question.spent).toHaveLength(2)
    for (const milliseconds of question.spent) {
      expect(milliseconds).toBeGreaterThanOrEqual(STATEMENT_MILLISECONDS - 1)
    }
    const next = ask('client')
    await work(next)
    expect(next.spent).toHaveLength(1)
  })
})

describe('a client that asks without end', () => {
  const STATEMENTS = { 'short questions': 1, 'longer questions': 5, 'one question': 1e9 }

  /** Returns the part of the time that its statements took, until the rest after them is over. */
  async function share(statements: number): Promise<number> {
    const started = performance.now()
    const elapsed = () => performance.now() - started
    let spent = 0
    while (elapsed() < ASKING_MILLISECONDS) {
      const question = ask('endless')
      for (let count = 0; count < statements && elapsed() < ASKING_MILLISECONDS; count += 1) {
        await work(question)
      }
      for (const milliseconds of question.spent) spent += milliseconds
    }
    await work(ask('endless'), 0)
    return spent / elapsed()
  }

  it.each(Object.entries(STATEMENTS))('has a fifth of a processor: %s', async (_, statements) => {
    let least = 1
    for (let round = 0; round < ROUNDS_MAX && least > SHARE_MAX; round += 1) {
      least = Math.min(least, await share(statements))
    }
    expect(least).toBeLessThanOrEqual(SHARE_MAX)
  })
})
