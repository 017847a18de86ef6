import { expect } from 'vitest'
import { enrolHost } from '../support/hosts.ts'
import type { TestRegistry } from '../support/registry.ts'
import {
  basic,
  bearer,
  claimsOf,
  makeCredential,
  openTokenMinter,
  requestToken,
  sql,
} from './credentials-client.ts'

export type Action = 'pull' | 'push' | 'delete' | 'admin'

/** A kind of caller, and its rights. */
export type Caller = {
  kind: 'nobody' | 'bad' | 'expired token' | 'holder' | 'admin'
  scheme: 'none' | 'basic' | 'bearer'
  /** Its actions in `a/b`. */
  actions?: readonly Action[]
  /** True when it may not set or remove the tag `missing`. */
  bounded?: true
  /** True when it may read the metrics. */
  seesMetrics?: true
  authorization(registry: TestRegistry): Promise<string | undefined>
}

const EVERYTHING = ['pull', 'push', 'delete', 'admin'] as const
const ALL_SCOPES = [
  `repository:a/b:${EVERYTHING.join()}`,
  'registry:catalog:*',
  'registry:admin:*',
  'registry:metrics:*',
] as const

const credentialOf =
  (repositories: string[], actions: readonly Action[], tags?: string[]) =>
  async (registry: TestRegistry) => {
    const made = await makeCredential(registry, {
      repositories,
      actions: [...actions],
      ...(tags === undefined ? {} : { tags }),
    })
    return basic(made.name, made.secret)
  }

const HOLDERS: Record<string, [Caller['actions'], Caller['authorization'], bounded?: true]> = {
  'another repository': [[], credentialOf(['x/y', 'a/b/c', 'a'], EVERYTHING)],
  'pull only': [['pull'], credentialOf(['a/*'], ['pull'])],
  'push only': [['push'], credentialOf(['a/*'], ['push'])],
  'delete only': [['delete'], credentialOf(['**'], ['delete'])],
  'settings only': [['admin'], credentialOf(['a/b'], ['admin'])],
  'a tag outside the pattern': [EVERYTHING, credentialOf(['a/b'], EVERYTHING, ['v*']), true],
  'a builder that may do everything there': [EVERYTHING, credentialOf(['a/b'], EVERYTHING)],
}

async function forMetrics(registry: TestRegistry): Promise<string> {
  const { name, secret } = await makeCredential(registry, { kind: 'metrics' })
  return basic(name, secret)
}

const asAdministrator = async (registry: TestRegistry) => basic('admin', registry.password)

async function asOtherAdministrator(registry: TestRegistry): Promise<string> {
  const { name, secret } = await makeCredential(registry, { kind: 'admin' })
  return basic(name, secret)
}

/** Returns a right secret with the name of another credential. */
async function underAnotherName(registry: TestRegistry): Promise<string> {
  const { secret } = await makeCredential(registry, { kind: 'admin' })
  const { name } = await makeCredential(registry, { repositories: ['**'], actions: ['pull'] })
  return basic(name, secret)
}

async function expiredCredential(registry: TestRegistry): Promise<string> {
  const { name, secret } = await makeCredential(registry, {
    repositories: ['**'],
    actions: [...EVERYTHING],
  })
  await sql(
    registry,
    `update credentials
        set expires_at = now() - interval '1 second'
      where name = $1`,
    [name],
  )
  return basic(name, secret)
}

async function revokedCredential(registry: TestRegistry): Promise<string> {
  const { name, secret } = await makeCredential(registry, { kind: 'admin' })
  const { status } = await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
  expect(status).toBe(204)
  return basic(name, secret)
}

const elsewhere = async (registry: TestRegistry) => {
  const made = await makeCredential(registry, { kind: 'admin', networks: ['192.0.2.0/24'] })
  return basic(made.name, made.secret)
}

async function refreshToken(registry: TestRegistry): Promise<string> {
  const headers = { authorization: (await asOtherAdministrator(registry)) ?? '' }
  const answer = await registry.anonymous('/token?offline_token=true', { headers })
  return bearer(((await answer.json()) as { refresh_token: string }).refresh_token)
}

/** Returns a token of a revoked credential. No cache has the token. */
async function orphanedToken(registry: TestRegistry): Promise<string> {
  const { name, secret } = await makeCredential(registry, { kind: 'admin' })
  const token = await requestToken(registry, basic(name, secret), ...ALL_SCOPES)
  const { status } = await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
  expect(status).toBe(204)
  return bearer(token)
}

async function expiredToken(registry: TestRegistry): Promise<string> {
  const mint = await openTokenMinter(registry)
  const entry = { type: 'repository' as const, name: 'a/b', actions: [...EVERYTHING] }
  const { token } = await mint.tokens.mint({ subject: 'late', access: [entry] }, -60)
  await mint.close()
  return bearer(token)
}

/** Returns a token that was revoked before its first use. No cache has it. */
async function revokedToken(registry: TestRegistry): Promise<string> {
  const token = await requestToken(registry, await asAdministrator(registry), ...ALL_SCOPES)
  const path = `/api/v1/tokens/${claimsOf(token).jti}`
  const { status } = await registry.request(path, { method: 'DELETE' })
  expect(status).toBe(204)
  return bearer(token)
}

/** Returns the same caller with a token for all its rights. */
const withToken = (authorization: Caller['authorization']) => async (registry: TestRegistry) =>
  bearer(await requestToken(registry, await authorization(registry), ...ALL_SCOPES))

/** Returns the token as a password, as clients send it that support only passwords. */
const asPassword = (authorization: Caller['authorization']) => async (registry: TestRegistry) =>
  basic('token', (await authorization(registry))?.replace('Bearer ', '') ?? '')

/** Returns an administrator's token for pulls only. */
const forPulls = async (registry: TestRegistry) =>
  bearer(await requestToken(registry, await asAdministrator(registry), 'repository:a/b:pull'))

/** Returns the secret without its name. */
const alone = (authorization: Caller['authorization']) => async (registry: TestRegistry) => {
  const encoded = (await authorization(registry))?.slice('Basic '.length) ?? ''
  return bearer(Buffer.from(encoded, 'base64').toString().split(':')[1] ?? '')
}

const asHost = async (registry: TestRegistry) =>
  bearer(await (await enrolHost(registry, { repositories: ['a/*'] })).token())

const never = async () => undefined
const text = (value: string) => async () => value
const wrong = (authorization: Caller['authorization'], scheme: Caller['scheme'] = 'basic') =>
  ({ kind: 'bad', scheme, authorization }) as const

/** All kinds of callers, by name. */
export const CALLERS: Record<string, Caller> = {
  anonymous: { kind: 'nobody', scheme: 'none', authorization: never },
  'nobody over Basic': { kind: 'nobody', scheme: 'basic', authorization: text(basic('', '')) },
  'nobody with a token': { kind: 'nobody', scheme: 'bearer', authorization: withToken(never) },
  'a wrong password': wrong(text(basic('admin', 'wrong'))),
  'a right password for another user': wrong(async ({ password }) => basic('root', password)),
  'a credential under another name': wrong(underAnotherName),
  'a user alone': wrong(text(basic('admin', ''))),
  'broken Basic': wrong(text('Basic %%%')),
  'another scheme': wrong(text('Digest username="admin"')),
  'a token of somebody else': wrong(text(`Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.`), 'bearer'),
  'an expired credential': wrong(expiredCredential),
  'a revoked credential': wrong(revokedCredential),
  'a credential for another network': wrong(elsewhere),
  'a revoked token': wrong(revokedToken, 'bearer'),
  'a token of a revoked credential': wrong(orphanedToken, 'bearer'),
  'a refresh token': wrong(refreshToken, 'bearer'),
  'an expired token': { kind: 'expired token', scheme: 'bearer', authorization: expiredToken },
  'an expired token as password': {
    kind: 'expired token',
    scheme: 'bearer',
    authorization: asPassword(expiredToken),
  },
  'a builder’s secret alone': {
    kind: 'holder',
    scheme: 'bearer',
    actions: EVERYTHING,
    authorization: alone(credentialOf(['a/b'], EVERYTHING)),
  },
  'an administrator’s token for pulls': {
    kind: 'holder',
    scheme: 'bearer',
    actions: ['pull'],
    authorization: forPulls,
  },
  'a credential for metrics': {
    kind: 'holder',
    scheme: 'basic',
    seesMetrics: true,
    authorization: forMetrics,
  },
  'a token for metrics': {
    kind: 'holder',
    scheme: 'bearer',
    seesMetrics: true,
    authorization: withToken(forMetrics),
  },
  'a host': { kind: 'holder', scheme: 'bearer', actions: ['pull'], authorization: asHost },
  'the administrator': { kind: 'admin', scheme: 'basic', authorization: asAdministrator },
  'another administrator': { kind: 'admin', scheme: 'basic', authorization: asOtherAdministrator },
  'an administrator’s token': {
    kind: 'admin',
    scheme: 'bearer',
    authorization: withToken(asAdministrator),
  },
  ...Object.fromEntries(
    Object.entries(HOLDERS).flatMap(([name, [actions, authorization, bounded]]) => {
      const caller = { kind: 'holder', actions, ...(bounded && { bounded }) } as const
      return [
        [name, { ...caller, scheme: 'basic', authorization }],
        [
          `${name}, by token`,
          { ...caller, scheme: 'bearer', authorization: withToken(authorization) },
        ],
        [
          `${name}, by token as password`,
          { ...caller, scheme: 'bearer', authorization: asPassword(withToken(authorization)) },
        ],
      ]
    }),
  ),
}
