import { execFileSync } from 'node:child_process'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { findTemporaryFailure } from '../../src/http/temporary-failures.ts'
import { sql } from '../auth/credentials-client.ts'
import { newRepository, pushBlob, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { mountSmallDisk, unmountSmallDisk } from '../support/small-disk.ts'

const disk = await mountSmallDisk(16)

/** Asserts that a client waits and repeats its request. */
async function expectNotNow(answer: Response, message: RegExp): Promise<void> {
  const { errors } = (await answer.json()) as { errors: { code: string; message: string }[] }
  expect([answer.status, errors[0]?.code]).toEqual([503, 'UNAVAILABLE'])
  expect(errors[0]?.message).toMatch(message)
  expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
}

function tryPush(registry: TestRegistry, repository: string): Promise<Response> {
  return registry.request(`/v2/${repository}/blobs/uploads/?digest=sha256:${'0'.repeat(64)}`, {
    method: 'POST',
    body: 'bytes',
  })
}

describe.skipIf(disk === undefined)('while the disk is read-only', () => {
  const folder = disk ?? ''
  let registry: TestRegistry
  const remount = (mode: 'ro' | 'rw') => execFileSync('mount', ['-o', `remount,${mode}`, folder])

  beforeAll(async () => {
    registry = await startRegistry({
      ROOKERY_DATA_DIR: folder,
      ROOKERY_S3_BUCKET: '',
      ROOKERY_S3_ENDPOINT: '',
      ROOKERY_DISK_RESERVE_BYTES: '0',
    })
  })

  afterAll(async () => {
    remount('rw')
    await registry.close()
    await unmountSmallDisk(folder)
  })

  it('a push waits, a pull goes on, and both work again afterwards', async () => {
    const repository = newRepository()
    const { digest } = await pushBlob(registry, repository)
    remount('ro')
    await expectNotNow(await tryPush(registry, repository), /cannot use its files/)
    expect((await registry.anonymous(`/v2/${repository}/blobs/${digest}`)).status).toBe(200)
    remount('rw')
    await pushBlob(registry, repository)
  })
})

describe('while the database is read-only, as after a failover', () => {
  let registry: TestRegistry
  const setReadOnly = async (mode: 'on' | 'off') => {
    const [row] = await sql<{ name: string }>(registry, 'select current_database() as name')
    // In a transaction that writes, because the session may be read-only.
    const change = `alter database "${row?.name}" set default_transaction_read_only = ${mode}`
    await sql(registry, `begin read write; ${change}; commit`)
    await sql(
      registry,
      `select pg_terminate_backend(pid)
         from pg_stat_activity
        where datname = current_database()
          and pid <> pg_backend_pid()`,
    )
  }

  beforeAll(async () => {
    registry = await startRegistry()
  })
  afterEach(() => setReadOnly('off'))
  afterAll(() => registry.close())

  it('a push waits, and a pull goes on', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    await setReadOnly('on')
    const pull = () => registry.anonymous(`/v2/${repository}/manifests/v1`)
    await expect.poll(async () => (await pull()).status).toBe(200)
    await expectNotNow(await tryPush(registry, repository), /database .* cannot do this/)
  })
})

describe('while the database cannot do what a statement asks for', () => {
  let registry: TestRegistry

  beforeAll(async () => {
    registry = await startRegistry()
  })
  afterAll(() => registry.close())

  // No space, memory, connections or locks; a failed disk; read-only; canceled; shutdown, start and recovery.
  const CODES = ['53000', '53100', '53200', '53300', '53400', '58030', '25006', '57014', '55P03']
  it.each([...CODES, '57P01', '57P02', '57P03', '57P05', '08006'])(
    'SQLSTATE %s is 503',
    async (code) => {
      // Every write calls this function.
      await sql(
        registry,
        `create or replace function assert_unrevoked(origin text, token_id text, key_id text)
       returns void language plpgsql volatile as $$
       begin raise exception 'by the tests' using errcode = '${code}'; end $$`,
      )
      await expectNotNow(await tryPush(registry, newRepository()), /database/)
    },
  )
})

it.each([
  ...['EACCES', 'EAGAIN', 'EDQUOT', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM', 'ENOSPC', 'EPERM'],
  ...['EROFS', 'ESTALE'],
])('a system call that fails with %s is answered with 503 on every route', (code) => {
  // `answerError` asks this function for every error of every route.
  const found = findTemporaryFailure(Object.assign(new Error('by the tests'), { code }))
  expect(found).toMatchObject({ code: 'UNAVAILABLE', data: { retryAfterSeconds: 10 } })
})
