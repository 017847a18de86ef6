import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { exportJWK } from 'jose'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  basic,
  bearer,
  makeCredential,
  openTokenMinter,
  requestToken,
  sql,
} from './credentials-client.ts'
import { logIn, secretOf } from './session-client.ts'

let registry: TestRegistry
/** Every issued secret, by kind. */
const secrets: Record<string, string> = {}

const OWNER_ONLY = ['master-key', 'admin-password']

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_LOG_LEVEL: 'debug',
    ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
  })
  await pushImage(registry, 'a/b', 'v1')
  const { name, secret } = await makeCredential(registry, {
    repositories: ['a/*'],
    actions: ['pull', 'push'],
  })
  const authorization = basic(name, secret)
  const token = await requestToken(registry, authorization, 'repository:a/b:pull,push')
  const refreshed = await registry.anonymous('/token?offline_token=true', {
    headers: { authorization },
  })
  const refresh = ((await refreshed.json()) as { refresh_token: string }).refresh_token
  const created = await registry.anonymous('/api/v1/repositories/a/b/tags/v2/upload-urls', {
    method: 'POST',
    headers: { authorization },
  })
  const uploadUrl = ((await created.json()) as { url: string }).url
  Object.assign(secrets, {
    'a credential': secret,
    'Basic authorization': authorization.slice('Basic '.length),
    'a token': token,
    'a refresh token': refresh,
    'an upload URL': uploadUrl.slice(uploadUrl.lastIndexOf('/') + 1),
    'a session': secretOf(await logIn(registry, { name, secret })),
    'the password of the administrator': registry.password,
  })
  expect(secrets['an upload URL']).toMatch(/^rku_/)
  expect(secrets['a refresh token']).toMatch(/^rkr_/)
  expect(secrets['a session']).toMatch(/^rks_/)
  await useAll(name)
})

afterAll(() => registry.close())

/** The texts of all refusals. */
const refusals: string[] = []
let requests = 0

async function say(path: string, init: RequestInit = {}): Promise<void> {
  requests += 1
  // The login throttle counts by address.
  const from = `198.51.100.${requests % 250}`
  const answer = await registry.anonymous(path, {
    ...init,
    headers: { 'x-forwarded-for': from, ...(init.headers as Record<string, string>) },
  })
  const text = `${await answer.text()} ${JSON.stringify(Object.fromEntries(answer.headers))}`
  if (answer.status >= 400) refusals.push(text)
}

/** Sends each secret in each place of a request. */
async function useAll(name: string): Promise<void> {
  for (const secret of Object.values(secrets)) {
    const headers = [
      bearer(secret),
      basic(name, secret),
      basic(secret, secret),
      `Basic ${secret}`,
      `Token ${secret}`,
      secret,
    ]
    for (const authorization of headers) {
      for (const path of ['/v2/', '/v2/a/b/manifests/absent', '/metrics', '/token?scope=x']) {
        await say(path, { headers: { authorization } })
      }
      const push = { method: 'PUT', headers: { authorization }, body: '{' }
      await say('/v2/a/b/manifests/v1', push)
    }
    const https = { 'x-forwarded-proto': 'https', cookie: `__Host-rookery=${secret}` }
    for (const path of ['/', '/r/a/absent', '/v2/']) await say(path, { headers: https })
    for (const fields of [{ name, secret }, { name, secret: `${secret}x` }, { secret }]) {
      await say('/login', { method: 'POST', headers: https, body: new URLSearchParams(fields) })
    }
    for (const fields of [
      { grant_type: 'password', username: name, password: secret },
      { grant_type: 'refresh_token', refresh_token: secret },
      { grant_type: 'refresh_token', refresh_token: `${secret}x` },
      { grant_type: secret },
    ]) {
      await say('/token', {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(fields as Record<string, string>).toString(),
      })
    }
  }
}

/** Lists the leaked secrets: the place and the kind. */
function found(places: Record<string, string>): string[] {
  return Object.entries(places).flatMap(([place, text]) =>
    Object.entries(secrets)
      .filter(([, secret]) => text.includes(secret))
      .map(([what]) => `${what} in ${place}`),
  )
}

it('no refusal repeats a secret', () => {
  expect(refusals.length).toBeGreaterThan(150)
  expect(found({ 'a refusal': refusals.join('\n') })).toEqual([])
})

it('no line of the log has a secret', () => {
  const log = registry.log.join('')
  expect(log.length).toBeGreaterThan(10_000)
  expect(found({ 'the log': log })).toEqual([])
  expect(log).not.toMatch(/rk[yrus]_[\w-]{43}|eyJ[\w-]+\.eyJ/)
})

it('no entry of the audit log has a secret, nor do the metrics', async () => {
  const audit = await (await registry.request('/api/v1/audit?n=1000')).text()
  const metrics = await (await registry.request('/metrics')).text()
  expect(found({ audit, metrics })).toEqual([])
})

it('no column of the database has a secret: there are only hashes', async () => {
  const columns = await sql<{ table: string; column: string }>(
    registry,
    `select table_name as "table", column_name as "column"
       from information_schema.columns
      where table_schema = 'public'`,
  )
  expect(columns.length).toBeGreaterThan(50)
  const places: Record<string, string> = {}
  for (const { table, column } of columns) {
    const rows = await sql<{ value: string | null }>(
      registry,
      `select "${column}"::text as value from "${table}"`,
    )
    const text = rows.map(({ value }) => value ?? '').join('\n')
    // Postgres returns bytes as hexadecimal digits.
    const hex = text.replace(/\\x((?:[0-9a-f]{2})+)/g, (_, digits) =>
      Buffer.from(digits, 'hex').toString('latin1'),
    )
    places[`${table}.${column}`] = `${text}\n${hex}`
  }
  expect(found(places)).toEqual([])
  const hashOf = (what: string) =>
    createHash('sha256')
      .update(secrets[what] ?? '')
      .digest()
  for (const [table, what] of [
    ['credentials', 'a credential'],
    ['refresh_tokens', 'a refresh token'],
    ['upload_urls', 'an upload URL'],
    ['sessions', 'a session'],
  ] as const) {
    const query = `select 1 from ${table} where secret_sha256 = $1`
    expect(await sql(registry, query, [hashOf(what)])).toHaveLength(1)
  }
  const mint = await openTokenMinter(registry)
  const { privateKey } = mint.keys.signingKey()
  await mint.close()
  const pem = privateKey.export({ format: 'pem', type: 'pkcs8' }) as string
  const { d } = await exportJWK(privateKey)
  for (const text of Object.values(places)) {
    expect(text).not.toContain(pem.split('\n')[1])
    expect(text).not.toContain(d)
  }
})

it('no file in the data folder has a secret, except files for its owner only', async () => {
  const files = (await readdir(registry.folder, { withFileTypes: true, recursive: true })).filter(
    (entry) => entry.isFile(),
  )
  const places: Record<string, string> = {}
  for (const { name, parentPath } of files) {
    const path = join(parentPath, name)
    if (OWNER_ONLY.includes(name)) expect((await stat(path)).mode & 0o077).toBe(0)
    else places[path] = await readFile(path, 'latin1')
  }
  expect(files.map(({ name }) => name)).toContain('master-key')
  expect(found(places)).toEqual([])
})

it('the response for an internal error has its request id, and nothing else', async () => {
  const { name, secret } = await makeCredential(registry, {
    repositories: ['a/*'],
    actions: ['pull'],
  })
  const column = `broken_${randomUUID().slice(0, 8)}`
  await sql(registry, `alter table credentials rename column secret_sha256 to ${column}`)
  const headers = { authorization: basic(name, secret), 'x-forwarded-for': '203.0.113.1' }
  const answer = await registry.anonymous('/v2/', { headers })
  await sql(registry, `alter table credentials rename column ${column} to secret_sha256`)
  expect(answer.status).toBe(500)
  const request = answer.headers.get('x-request-id')
  expect(await answer.json()).toEqual({
    errors: [{ code: 'UNKNOWN', message: 'unknown error', detail: { request } }],
  })
  const line = registry.log.find((one) => one.includes(`${request}`) && one.includes('secret_'))
  expect(line).toBeDefined()
  expect(registry.log.join('')).not.toContain(secret)
})
