import { AsyncLocalStorage } from 'node:async_hooks'
import { Server } from 'node:http'
import pg from 'pg'
import { vi } from 'vitest'

/** A statement as its function has it, and the name of that function if the statement was sent with one. */
export type Statement = {
  readonly text: string
  readonly values: readonly unknown[]
  readonly sender?: string | undefined
}

const requests = new AsyncLocalStorage<Statement[]>()
let current: Statement[] = []

/** The name of the function that sends a statement, behind its first word. */
const SENDER = /^(\s*\w+) \/\* (\w+) \*\//

/** Records the statements that requests send to Postgres, from now on. */
export function recordStatements(): void {
  const server = Server.prototype as { emit(name: string, ...rest: unknown[]): boolean }
  const { emit } = server
  vi.spyOn(server, 'emit').mockImplementation(function (this: Server, name, ...rest) {
    const run = () => Reflect.apply(emit, this, [name, ...rest]) as boolean
    return name === 'request' ? requests.run(current, run) : run()
  })
  const client = pg.Client.prototype as { query(...args: unknown[]): unknown }
  const { query } = client
  vi.spyOn(client, 'query').mockImplementation(function (this: pg.Client, ...args) {
    const [config] = args as [Partial<Statement> | string]
    const { text, values = [] } = typeof config === 'string' ? { text: config } : config
    if (text !== undefined) {
      const sender = SENDER.exec(text)?.[2]
      requests.getStore()?.push({ text: text.replace(SENDER, '$1'), values, sender })
    }
    return Reflect.apply(query, this, args)
  })
}

/** Returns the statements that requests sent during `work`. */
export async function statementsOf(work: () => Promise<unknown>): Promise<Statement[]> {
  current = []
  await work()
  return current
}

const READS_OR_WRITES = /^\s*(?:select|with|insert|update|delete)\b/i

/**
 * Runs the statement with the plan that Postgres makes without its values, as it does for a statement that it has often
 * run. Returns the pages of tables and indexes that it read; 0 for `begin` and its like. Changes nothing.
 */
export async function countPages(client: pg.Client, { text, values }: Statement): Promise<number> {
  if (!READS_OR_WRITES.test(text)) return 0
  await client.query('begin')
  try {
    await client.query(`set local plan_cache_mode = force_generic_plan`)
    await client.query(`prepare counted as ${text}`)
    const list = values.map((value) => literal(value)).join(', ')
    const { rows } = await client.query(
      `explain (analyze, buffers, format json) execute counted${list === '' ? '' : `(${list})`}`,
    )
    const [{ Plan: plan }] = rows[0]['QUERY PLAN']
    return (
      plan['Shared Hit Blocks'] +
      plan['Shared Read Blocks'] +
      plan['Temp Read Blocks'] +
      plan['Temp Written Blocks']
    )
  } finally {
    await client.query('rollback')
    await client.query('deallocate all')
  }
}

function literal(value: unknown): string {
  if (value === null || value === undefined) return 'null'
  return pg.escapeLiteral(textOf(value))
}

function textOf(value: unknown): string {
  if (Buffer.isBuffer(value)) return `\\x${value.toString('hex')}`
  if (value instanceof Date) return value.toISOString()
  if (!Array.isArray(value))
    return typeof value === 'object' ? JSON.stringify(value) : String(value)
  const parts = value.map((part) =>
    part === null ? 'NULL' : `"${textOf(part).replace(/[\\"]/g, '\\$&')}"`,
  )
  return `{${parts.join(',')}}`
}
