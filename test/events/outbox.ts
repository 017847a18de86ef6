import pg from 'pg'
import type { EventType } from '../../src/events/event.ts'
import type { TestRegistry } from '../support/registry.ts'
import { registryEvent } from '../webhooks/registry-events.ts'

/** Appends one event of each type, with these fields, to the outbox of a registry, as a transaction of the server does. */
export async function appendToOutbox(
  registry: TestRegistry,
  repository: string,
  types: readonly EventType[],
  fields: Record<string, unknown> = {},
): Promise<void> {
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  try {
    for (const type of types) {
      const event = registryEvent(type, { repository })
      const [tag, digest] = 'tag' in event ? [event.tag, event.digest] : [null, null]
      const name = 'repository' in event ? event.repository : null
      await client.query(
        `insert into event_outbox (type, repository_id, tag, digest, data)
         values ($1, (select id from repositories where name = $2), $3, $4, $5)`,
        [type, name, tag, digest, JSON.stringify({ ...event, ...fields })],
      )
    }
  } finally {
    await client.end()
  }
}
