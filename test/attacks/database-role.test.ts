import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from '../../src/embedded-postgres/supervisor.ts'
import { query } from '../support/query.ts'

const quiet = (): void => {}

let base: string
let postgres: EmbeddedPostgres

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'rookery-role-'))
  await chmod(base, 0o755)
  const log = { info: quiet, warn: quiet, error: quiet }
  const folder = join(base, 'data', 'postgres')
  postgres = await startEmbeddedPostgres({ folder, log, onLost: quiet })
})

afterAll(async () => {
  await postgres.stop()
  await rm(base, { recursive: true, force: true })
})

/** Statements that only a superuser may send. */
const SUPERUSER_ONLY = [
  `select pg_read_file('/etc/passwd')`,
  `select pg_ls_dir('/')`,
  `select lo_import('/etc/passwd')`,
  `copy (select 1) to '/tmp/rookery-attack'`,
  `copy (select 1) to program 'id'`,
  `do $$ begin execute 'create table stolen (line text)'; execute 'copy stolen from program ''id'''; end $$`,
  `create role helper superuser`,
  `alter role rookery superuser`,
  `set role rookery_supervisor`,
  `set session authorization rookery_supervisor`,
  `alter system set archive_command = 'id'`,
  `create function run(text) returns int as '/lib/x86_64-linux-gnu/libc.so.6', 'system' language c`,
  `update pg_authid set rolsuper = true`,
  `select rolpassword from pg_authid`,
]

describe('the role of rookery in the embedded Postgres', () => {
  it.each(SUPERUSER_ONLY)('may not: %s', async (sql) => {
    await expect(query(postgres.connection, sql)).rejects.toThrow(
      /permission denied|only roles? with|must be (super|able)|no schema|To alter|attribute/,
    )
  })

  it('owns its database, and may not enter the others', async () => {
    const { connection } = postgres
    expect(
      await query(connection, `select rolsuper from pg_roles where rolname = current_user`),
    ).toBe(false)
    await query(connection, 'create schema work')
    for (const database of ['postgres', 'template1']) {
      await expect(query({ ...connection, database }, 'select 1')).rejects.toThrow(
        /permission denied/,
      )
    }
  })

  it('opens no port, and trusts nobody', async () => {
    const rules = await readFile(join(postgres.connection.host, '..', 'pg_hba.conf'), 'utf8')
    expect(rules).toBe('local all all peer map=rookery\n')
    expect(await query(postgres.connection, 'show listen_addresses')).toBe('')
  })
})
