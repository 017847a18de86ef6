import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { listAuditEntries } from '../../src/db/auth/audit.ts'
import { Database } from '../../src/db/database.ts'
import { recordStatements, statementsOf } from '../costs/statements.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const FOLDER = fileURLToPath(new URL('../../src/db/', import.meta.url))

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

/** Returns the names of all functions of src/db. */
function functionsOfDatabase(): Set<string> {
  const files = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
  const sources = files
    .filter((path) => path.endsWith('.ts'))
    .map((path) => readFileSync(join(FOLDER, path), 'utf8'))
  const named = sources.flatMap((source) => [
    ...source.matchAll(/\bfunction (\w+)|^ {2}(?:async )?#?(\w+)[(<]/gm),
  ])
  return new Set(named.map(([, name, method]) => name ?? method ?? ''))
}

const NAMED = /^\s*\w+ \/\* (\w+) \*\//

it('each statement of a request names the function of src/db that sent it', async () => {
  recordStatements()
  const repository = newRepository()
  const sent = await statementsOf(async () => {
    await pushImage(registry, repository, 'v1')
    const paths = [
      `/v2/${repository}/manifests/v1`,
      `/v2/${repository}/tags/list`,
      '/v2/_catalog',
      `/api/v1/repositories/${repository}/tags/v1/history`,
      '/api/v1/repositories',
      '/api/v1/images',
      '/api/v1/audit?n=3',
      '/api/v1/audit?after=0',
      '/api/v1/events',
      '/api/v1/credentials',
      '/readyz',
      '/',
    ]
    for (const path of paths) await (await registry.request(path)).text()
  })
  const others = sent.filter(({ text }) => !/^(begin|commit)$/.test(text))
  expect(others.length).toBeGreaterThan(15)
  const functions = functionsOfDatabase()
  const names = others.map(({ text, sender }) => sender ?? text)
  expect(names.filter((name) => !functions.has(name))).toEqual([])
  expect(names).toEqual(
    expect.arrayContaining(['checkAnswer', 'finishUpload', 'putManifest', 'listAuditEntries']),
  )
})

it('Postgres shows the names of connections and of their statements', async () => {
  await (await registry.request('/api/v1/audit')).text()
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  const { rows } = await client.query<{ name: string; query: string }>(
    `select application_name as name, query
       from pg_stat_activity
      where datname = current_database() and application_name like 'rookery%'`,
  )
  await client.end()
  const questions = rows.filter(({ name }) => name === 'rookery questions')
  expect(questions.map(({ query }) => NAMED.exec(query)?.[1])).toContain('listAuditEntries')
  const functions = functionsOfDatabase()
  const others = rows.filter(({ name }) => name === 'rookery')
  const names = others.flatMap(({ query }) => NAMED.exec(query)?.[1] ?? [])
  expect(names.length).toBeGreaterThan(0)
  expect(names.filter((name) => !functions.has(name))).toEqual([])
})

it('a function with several texts has a name for each', async () => {
  const db = new Database({
    connection: registry.databaseUrl,
    connectionsMax: 1,
    onIdleError: () => {},
  })
  const none = { repository: undefined, decision: undefined, since: undefined }
  const page = { before: 1, limit: 1, ...none }
  for (let repeats = 0; repeats < 2; repeats += 1) {
    await listAuditEntries(db, { ...page, actor: undefined, action: undefined })
    await listAuditEntries(db, { ...page, actor: 'a', action: undefined })
    await listAuditEntries(db, { ...page, actor: undefined, action: 'a' })
  }
  const { rows } = await db.query<{ name: string; statement: string }>(
    'select name, statement from pg_prepared_statements order by prepare_time',
  )
  await db.close()
  const listed = rows.filter(({ name }) => name.startsWith('listAuditEntries'))
  expect(new Set(listed.map(({ statement }) => statement)).size).toBe(listed.length)
  expect(listed.slice(0, 2).map(({ name }) => name)).toEqual([
    'listAuditEntries',
    'listAuditEntries_2',
  ])
})
