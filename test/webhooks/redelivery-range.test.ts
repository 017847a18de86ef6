import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { FeedCursors } from '../../src/events/cursor.ts'
import { sql } from '../auth/credentials-client.ts'
import { feedCursorsOf } from '../support/cursors.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  adminWebhookClient,
  createWebhookAs,
  credentialWebhookClient,
  errorMessage,
  type WebhookClient,
} from './webhook-client.ts'

const EVENTS = 2500

let registry: TestRegistry
let admin: WebhookClient
let epoch: string
let cursors: FeedCursors

/** Inserts an event for each minute since the first of May, in `builds/even` or `builds/odd`, of two tags. */
beforeAll(async () => {
  registry = await startRegistry()
  cursors = await feedCursorsOf(registry)
  admin = adminWebhookClient(registry)
  await sql(
    registry,
    `insert into repositories (name, visibility)
     values ('builds/even', 'public'), ('builds/odd', 'public')`,
  )
  await sql(
    registry,
    `insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
     select i, gen_random_uuid(), 'image.tag.updated', r.id, case when i % 10 = 0 then 'live' else 'dev' end,
            '2026-05-01T00:00:00Z'::timestamptz + make_interval(mins => i), '{}'
       from generate_series(1, $1::int) as i
       join repositories r on r.name = case when i % 2 = 0 then 'builds/even' else 'builds/odd' end`,
    [EVENTS],
  )
  const [feed] = await sql<{ epoch: string }>(
    registry,
    'update feed set position = $1 returning left(epoch::text, 8) as epoch',
    [EVENTS],
  )
  epoch = feed?.epoch ?? ''
})
afterAll(() => registry.close())

/** Creates a paused webhook, so that due deliveries stay pending. */
const createPaused = async (more: Record<string, unknown> = {}): Promise<string> =>
  (await createWebhookAs(admin, { paused: true, ...more })).name

async function positionsOf(name: string): Promise<number[]> {
  const rows = await sql<{ position: string }>(
    registry,
    `select d.event_position as position
       from deliveries d
       join webhooks w on w.id = d.webhook_id
      where w.name = $1
        and d.state = 'pending'
      order by d.event_position`,
    [name],
  )
  return rows.map(({ position }) => Number(position))
}

const range = (from: number, to: number, step = 1) =>
  Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, index) => from + index * step)
const cursor = (position: number) => cursors.format({ epoch, position })
const timeOf = (minutes: number) => new Date(Date.UTC(2026, 4, 1, 0, minutes)).toISOString()

describe('a redelivery sends the events of a range', () => {
  it('after one cursor and up to another, from before the webhook was created too', async () => {
    const name = await createPaused()
    const asked = { after: cursor(100), until: cursor(120) }
    const { status, body } = await admin('POST', `/${name}/redeliver`, asked)
    expect({ status, body }).toEqual({ status: 202, body: { deliveries: 20, next: null } })
    expect(await positionsOf(name)).toEqual(range(101, 120))
  })

  it('between two times, a minute wider on both sides', async () => {
    const name = await createPaused()
    const asked = { after: timeOf(200), until: timeOf(210) }
    const { body } = await admin('POST', `/${name}/redeliver`, asked)
    expect(body.deliveries).toBe((await positionsOf(name)).length)
    const positions = await positionsOf(name)
    expect(positions).toEqual(expect.arrayContaining(range(200, 210)))
    expect(Math.min(...positions)).toBeGreaterThanOrEqual(198)
    expect(Math.max(...positions)).toBeLessThanOrEqual(212)
  })

  it('from the first to the last, when the times are outside the feed', async () => {
    const name = await createPaused({ tags: ['live'] })
    const asked = { after: '2000-01-01T00:00:00Z', until: '2100-01-01T00:00:00+02:00' }
    const { body } = await admin('POST', `/${name}/redeliver`, asked)
    expect(body).toEqual({ deliveries: EVENTS / 10, next: null })
    const none = await createPaused()
    const later = { after: '2100-01-01T00:00:00Z' }
    expect((await admin('POST', `/${none}/redeliver`, later)).body).toEqual({
      deliveries: 0,
      next: null,
    })
  })

  it('that match the current filter of the webhook', async () => {
    const name = await createPaused({ repositories: ['builds/e*'], tags: ['l*'] })
    await admin('POST', `/${name}/redeliver`, { after: cursor(0), until: cursor(100) })
    expect(await positionsOf(name)).toEqual(range(10, 100, 10))
    const other = await createPaused({ types: ['image.deleted'] })
    const { body } = await admin('POST', `/${other}/redeliver`, { after: cursor(0) })
    expect(body.deliveries).toBe(0)
  })

  it('a thousand at a time, and continues at the returned cursor', async () => {
    const name = await createPaused()
    let after: string | null = cursor(0)
    const counts: number[] = []
    while (after !== null) {
      const { body }: { body: { deliveries: number; next: string | null } } = await admin(
        'POST',
        `/${name}/redeliver`,
        { after },
      )
      counts.push(body.deliveries)
      after = body.next
    }
    expect(counts).toEqual([1000, 1000, 500])
    expect(await positionsOf(name)).toEqual(range(1, EVENTS))
  })

  it('whose deliveries are in the given states', async () => {
    const name = await createPaused()
    await admin('POST', `/${name}/redeliver`, { after: cursor(0), until: cursor(3) })
    const states = ['failed', 'delivered', 'expired']
    for (const [index, state] of states.entries()) {
      await sql(
        registry,
        `update deliveries d
            set state = $2,
                finished_at = now()
           from webhooks w
          where w.id = d.webhook_id
            and w.name = $1
            and d.event_position = $3`,
        [name, state, index + 1],
      )
    }
    const asked = { after: cursor(0), states: ['failed', 'expired'] }
    const { body } = await admin('POST', `/${name}/redeliver`, asked)
    expect(body.deliveries).toBe(2)
    expect(await positionsOf(name)).toEqual([1, 3])
    const listed = await admin('GET', `/${name}/deliveries?state=delivered`)
    const [{ event }] = listed.body.deliveries
    expect(event).toMatch(/^[0-9a-f-]{36}$/)
    expect((await admin('POST', `/${name}/deliveries/${event}/redeliver`)).status).toBe(202)
    expect(await positionsOf(name)).toEqual([1, 2, 3])
  })
})

describe('a redelivery is refused', () => {
  it.each([
    'yesterday',
    '2026-05-01',
    '2026-13-01T00:00:00Z',
    '2026-05-01T00:00:00',
    '',
    '-1',
    '1',
  ])('after a text that is neither cursor nor time: %j', async (after) => {
    const name = await createPaused()
    const answer = await admin('POST', `/${name}/redeliver`, { after })
    expect(answer.status).toBe(400)
    expect(errorMessage(answer, 'REQUEST_INVALID')).toMatch(
      /after must be a cursor such as [0-9a-f]{32}, or a time/,
    )
  })

  it('with a cursor of another registry, ahead of the feed, pruned, or after its end', async () => {
    const name = await createPaused()
    const message = async (after: string, until?: string) => {
      const answer = await admin('POST', `/${name}/redeliver`, { after, until })
      return errorMessage(answer, 'REQUEST_INVALID')
    }
    const other = epoch === '00000000' ? '11111111' : '00000000'
    const named = (text: string, before: RegExp) =>
      cursors.parse(new RegExp(`${before.source}([0-9a-f]{32})`).exec(text)?.[1] ?? '')
    expect(await message(cursors.format({ epoch: other, position: 5 }))).toContain(
      'another registry',
    )
    const ahead = await message(cursor(EVENTS + 1))
    expect(named(ahead, /is newer than the last event, /)).toEqual({ epoch, position: EVENTS })
    expect(await message(cursor(0), cursor(2 ** 48 - 1))).toContain('until is newer')
    expect(await message(cursor(9), cursor(8))).toContain('until must not be before after')
    await sql(registry, 'update feed set pruned_through = 7')
    const pruned = await message(cursor(6))
    expect(named(pruned, /the oldest available cursor is /)).toEqual({ epoch, position: 7 })
    await sql(registry, 'update feed set pruned_through = 0')
  })

  it('with unknown states', async () => {
    const name = await createPaused()
    for (const states of [['lost'], [], 'failed']) {
      const answer = await admin('POST', `/${name}/redeliver`, { after: cursor(0), states })
      expect(errorMessage(answer, 'REQUEST_INVALID')).toContain('states')
    }
  })
})

it('a user who manages a webhook does not see its earlier deliveries of other repositories', async () => {
  await sql(registry, `insert into repositories (name, visibility) values ('secret/x', 'private')`)
  const event = '11111111-1111-4111-8111-111111111111'
  await sql(
    registry,
    `insert into events (position, event_id, type, repository_id, tag, occurred_at, body)
     select $1::int + 1, $2::uuid, 'image.tag.updated', id, 'live', now(), '{"subject":"secret/x:live"}'
       from repositories
      where name = 'secret/x'`,
    [EVENTS, event],
  )
  const name = await createPaused()
  await sql(
    registry,
    `insert into deliveries (webhook_id, event_position)
     select id, position
       from webhooks, generate_series($2::int, $2::int + 1) as position
      where name = $1`,
    [name, EVENTS],
  )
  const { client } = await credentialWebhookClient(registry, {
    repositories: ['builds/**'],
    actions: ['admin', 'pull'],
  })
  const subjects = async (caller: WebhookClient) => {
    const { body } = await caller('GET', `/${name}/deliveries`)
    return body.deliveries.map(({ subject }: { subject: string }) => subject)
  }
  expect(await subjects(admin)).toEqual(['secret/x:live', 'builds/even:live'])
  expect(await subjects(client)).toEqual(['builds/even:live'])
  for (const [method, path] of [
    ['GET', ''],
    ['POST', '/redeliver'],
  ] as const) {
    expect((await client(method, `/${name}/deliveries/${event}${path}`)).status).toBe(404)
  }
  expect((await admin('GET', `/${name}/deliveries/${event}`)).status).toBe(200)
})

it('an event without a delivery to the webhook is not found', async () => {
  const name = await createPaused()
  for (const event of ['00000000-0000-4000-8000-000000000000', 'x', '%00']) {
    for (const [method, path] of [
      ['GET', ''],
      ['POST', '/redeliver'],
    ] as const) {
      const answer = await admin(method, `/${name}/deliveries/${event}${path}`)
      expect({ event, status: answer.status }).toEqual({ event, status: 404 })
    }
  }
})
