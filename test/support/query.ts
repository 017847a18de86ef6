import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import type { EmbeddedPostgres } from '../../src/embedded-postgres/supervisor.ts'

const CHILD = fileURLToPath(new URL('./query.child.ts', import.meta.url))

/**
 * Sends statements to Postgres in a process with this uid and gid. Returns the first value of the last one, or why
 * one was refused.
 */
export async function queryAs(
  uid: number,
  connection: EmbeddedPostgres['connection'],
  sql: string,
): Promise<{ value?: unknown; refused?: string }> {
  const args = ['--import', 'tsx', CHILD, JSON.stringify({ ...connection, sql })]
  const { stdout } = await promisify(execFile)(process.execPath, args, { uid, gid: uid })
  return JSON.parse(stdout)
}

/** Sends a statement to Postgres, and returns its first value. */
export async function query(
  connection: EmbeddedPostgres['connection'],
  sql: string,
): Promise<unknown> {
  const client = new pg.Client(connection)
  client.on('error', () => {})
  await client.connect()
  try {
    const { rows } = await client.query({ text: sql, rowMode: 'array' })
    return rows[0]?.[0]
  } finally {
    await client.end()
  }
}
