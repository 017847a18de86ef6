import { readdirSync, readFileSync } from 'node:fs'
import pg from 'pg'
import { expect, it } from 'vitest'
import { createTestDatabase } from '../support/database.ts'

const SCHEMA = new URL('../../schema/', import.meta.url)

it('stored webhooks and events get the new names of their types', async () => {
  const database = await createTestDatabase('template0')
  const client = new pg.Client(database.url)
  await client.connect()
  try {
    const files = readdirSync(SCHEMA)
      .filter((name) => name.endsWith('.sql'))
      .sort()
    const at = files.indexOf('0006-names.sql')
    const apply = async (names: string[]) => {
      for (const name of names) await client.query(readFileSync(new URL(name, SCHEMA), 'utf8'))
    }
    await apply(files.slice(0, at))
    const body = '{"type":"endpoint.disabled","data":{"detail":"\\"type\\":\\"endpoint.ping\\""}}'
    await client.query(
      `insert into webhooks (name, url, repositories, types, format, secrets_jwe, owner_name)
       values ('a', 'https://a.example', '{**}', '{image.pushed,endpoint.disabled}', 'docker', '', 'b'),
              ('c', 'https://c.example', '{**}', '{image.deleted}', 'docker', '', 'b')`,
    )
    await client.query(`insert into event_outbox (type, data) values ('endpoint.ping', $1)`, [
      '{"type":"endpoint.ping","webhook":"a"}',
    ])
    await client.query(
      `insert into events (position, event_id, type, occurred_at, body)
       values (1, gen_random_uuid(), 'endpoint.disabled', now(), $1)`,
      [body],
    )
    await apply(files.slice(at))
    const rowsOf = async (query: string) => (await client.query(query)).rows
    expect(await rowsOf('select types from webhooks order by name')).toEqual([
      { types: ['image.pushed', 'webhook.disabled'] },
      { types: ['image.deleted'] },
    ])
    expect(await rowsOf('select type, data from event_outbox')).toEqual([
      { type: 'webhook.ping', data: '{"type":"webhook.ping","webhook":"a"}' },
    ])
    // A text that quotes the old name stays as it was.
    expect(await rowsOf('select type, body from events')).toEqual([
      {
        type: 'webhook.disabled',
        body: '{"type":"webhook.disabled","data":{"detail":"\\"type\\":\\"endpoint.ping\\""}}',
      },
    ])
  } finally {
    await client.end()
    await database.drop()
  }
})
