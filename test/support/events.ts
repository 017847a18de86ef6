import pg from 'pg'
import { expect } from 'vitest'
import { validateEvent } from '../events/event-schema.ts'
import type { TestRegistry } from './registry.ts'

/** An event as it is sent. */
export type SentEvent = {
  readonly id: string
  readonly type: string
  readonly subject: string
  readonly sequence?: string
  readonly data: Record<string, unknown>
}

/** Waits until a repository has `count` events, and returns their bodies in their order. */
export async function eventBodies(
  registry: Pick<TestRegistry, 'databaseUrl'>,
  repository: string,
  count: number,
): Promise<string[]> {
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  try {
    const read = async () => {
      const { rows } = await client.query<{ body: string }>(
        `select e.body
           from events e
           join repositories r on r.id = e.repository_id
          where r.name = $1
          order by e.position`,
        [repository],
      )
      return rows.map(({ body }) => body)
    }
    await expect.poll(async () => (await read()).length, { timeout: 30_000 }).toBe(count)
    const bodies = await read()
    for (const body of bodies) validateEvent(body)
    return bodies
  } finally {
    await client.end()
  }
}

/** Waits as `eventBodies` does, and returns the parsed events. */
export async function eventsOf(
  registry: Pick<TestRegistry, 'databaseUrl'>,
  repository: string,
  count: number,
): Promise<SentEvent[]> {
  return (await eventBodies(registry, repository, count)).map((body) => JSON.parse(body))
}
