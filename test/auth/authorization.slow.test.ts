import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { allRoutes, type RouteDeps } from '../../src/http/routes.ts'
import { digestOf } from '../support/digest.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { CALLERS, type Caller } from './caller-kinds.ts'
import { ROUTE_RIGHTS, type RouteRights } from './route-rights.ts'

// With the paths of builder-web, which a setting adds.
const rows = allRoutes({ auth: {}, builderWeb: {} } as RouteDeps)

const MISSING = digestOf('what nobody pushed')
const UPLOAD = '00000000-0000-4000-8000-000000000000'
/** The same length as `a/b`, so that responses about both have one length. */
const NEVER = 'c/n'

const filled = (path: string, repository: string) =>
  path
    .replace('*repository', repository)
    .replace(':job', repository.replace('/', '~'))
    .replace(':platform', 'missing')
    .replace('*path', 'missing')
    .replace(':upload', UPLOAD)
    .replace(':build', UPLOAD)
    .replace(':deployment', UPLOAD)
    .replace(':digest', MISSING)
    .replace(':ecosystem', 'opam')
    .replace(':format', 'spdx')
    .replace(':pair', 'missing...missing')
    .replace(':inputId', '0'.repeat(64))
    .replace(/:(reference|tag|name|id|secret|file|host)/, 'missing')
    .replace(/:(file|other|event|unit)/, 'missing')

/** Returns the status of a row for a caller, in a public or a private repository. */
function expected(row: string, caller: Caller, isPublic: boolean): number {
  const { page, needs } = ROUTE_RIGHTS[row] as RouteRights
  const status = expectedOfApi(row, caller, isPublic)
  if (!page || status !== 401) return status
  const isReader = caller.kind === 'nobody' || caller.kind === 'holder'
  if (needs === 'pull' && isReader) return 404
  // A person without a login is sent to the form.
  return caller.scheme === 'none' ? 303 : 401
}

function expectedOfApi(row: string, caller: Caller, isPublic: boolean): number {
  const rule = ROUTE_RIGHTS[row] as RouteRights
  const { needs, answers } = rule
  const isV2 = row.includes(' /v2')
  if (needs === 'anybody') {
    const believed = !['bad', 'expired token'].includes(caller.kind)
    return rule.authenticatesItself && !believed ? 401 : answers
  }
  if (caller.kind === 'bad') return 401
  if (caller.kind === 'expired token') return rule.finishes ? answers : 401
  if (needs === 'host') return caller.kind === 'nobody' ? 401 : 403
  if (caller.kind === 'admin') return answers
  const refused = caller.kind === 'nobody' || (isV2 && caller.scheme === 'bearer') ? 401 : 403
  if (needs === 'somebody') {
    return caller.kind === 'holder' || caller.scheme === 'bearer' ? answers : 401
  }
  if (needs === 'holder') return caller.kind === 'holder' ? answers : 401
  if (needs === 'metrics') return caller.seesMetrics ? answers : refused
  if (needs === 'all') return refused
  if (rule.login && caller.kind === 'nobody') return 401
  const actions = caller.actions ?? []
  if (actions.includes(needs)) return rule.tag && caller.bounded ? 403 : answers
  if (needs !== 'pull') return refused
  if (isPublic || rule.ignoresRepository) return answers
  // Programs of builder-web expect 404 for a job that they may not see.
  if (row.includes(':job')) return 404
  // A caller with any right knows the name; for others the repository does not exist.
  if (actions.length > 0) return 404
  return caller.kind === 'holder' && caller.scheme === 'basic' ? 404 : 401
}

describe('every route as every kind of caller', () => {
  const registries: Record<'public' | 'private', TestRegistry | undefined> = {
    public: undefined,
    private: undefined,
  }
  const headers = new Map<string, string | undefined>()

  beforeAll(async () => {
    for (const visibility of ['public', 'private'] as const) {
      const registry = await startRegistry({
        ROOKERY_DEFAULT_VISIBILITY: visibility,
        ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
        ROOKERY_BUILDER_WEB: 'on',
      })
      registries[visibility] = registry
      await pushImage(registry, 'a/b', 'v1')
      for (const [name, { authorization }] of Object.entries(CALLERS)) {
        headers.set(`${visibility} ${name}`, await authorization(registry))
      }
    }
  })

  afterAll(async () => {
    for (const registry of Object.values(registries)) await registry?.close()
  })

  async function ask(
    visibility: 'public' | 'private',
    row: string,
    repository: string,
    who: string,
  ) {
    const [method = '', path = ''] = row.split(' ')
    const authorization = headers.get(`${visibility} ${who}`)
    const registry = registries[visibility]
    if (registry === undefined) throw new Error('the registry did not start')
    const answer = await registry.anonymous(filled(path, repository), {
      method,
      headers: {
        ...(authorization === undefined ? {} : { authorization }),
        // The login throttle counts by address: each row and caller has its own.
        'x-forwarded-for': addressOf(row, who),
      },
    })
    const {
      'x-request-id': requestId = '',
      date: _date,
      ...rest
    } = Object.fromEntries(answer.headers)
    // The page of an error shows the id of the request.
    const body = (await answer.text()).replace(requestId, '')
    return { status: answer.status, headers: rest, body }
  }

  it('is in the table', () => {
    expect(rows.map(({ method, path }) => `${method} ${path}`).sort()).toEqual(
      Object.keys(ROUTE_RIGHTS).sort(),
    )
  })

  describe.each(Object.keys(ROUTE_RIGHTS))('%s', (row) => {
    it.each(Object.entries(CALLERS))('%s', async (who, caller) => {
      for (const visibility of ['public', 'private'] as const) {
        const answer = await ask(visibility, row, 'a/b', who)
        const wanted = expected(row, caller, visibility === 'public')
        expect({ visibility, status: answer.status }).toEqual({ visibility, status: wanted })
        const registry = registries[visibility]
        if (ROUTE_RIGHTS[row]?.destroys && answer.status === 204 && registry !== undefined) {
          await pushImage(registry, 'a/b', 'v1')
        }
        if (answer.status === 401 && !row.startsWith('POST /token')) {
          expectChallenge(row, caller, answer.headers['www-authenticate'])
        } else expect(answer.headers).not.toHaveProperty('www-authenticate')
        if (answer.status >= 400 && !row.startsWith('HEAD') && !ROUTE_RIGHTS[row]?.page) {
          expect(JSON.parse(answer.body).errors[0].code).toMatch(/^[A-Z_]+$/)
        }
        const secret = headers.get(`${visibility} ${who}`)?.split(' ')[1]
        if (secret !== undefined && secret.length > 8) expect(answer.body).not.toContain(secret)
      }
    })

    const strangers = Object.entries(CALLERS).filter(
      ([, { kind, actions = [] }]) =>
        kind !== 'admin' && kind !== 'expired token' && actions.length === 0,
    )
    it.each(strangers)('%s cannot tell a private repository from none', async (who) => {
      if (!/\*repository|:job/.test(row)) return
      const hidden = await ask('private', row, 'a/b', who)
      const absent = await ask('private', row, NEVER, who)
      const renamed = JSON.parse(
        JSON.stringify(absent)
          .replaceAll(NEVER, 'a/b')
          .replaceAll('c~n', 'a~b')
          .replaceAll('c%2Fn', 'a%2Fb'),
      )
      expect(hidden).toEqual(renamed)
    })
  })

  it('no secret and no token is in the log', () => {
    const log = Object.values(registries)
      .flatMap((registry) => registry?.log ?? [])
      .join('')
    expect(log.length).toBeGreaterThan(10_000)
    expect(log).not.toMatch(/rky_|eyJ/)
    for (const registry of Object.values(registries)) {
      expect(log).not.toContain(registry?.password ?? 'no registry')
    }
  })
})

/** The challenge: under /v2/ that of the token protocol, with a scope; elsewhere Basic (RFC 6750, RFC 7617). */
function expectChallenge(row: string, { kind, scheme }: Caller, challenge = ''): void {
  if (!row.includes(' /v2')) {
    expect(challenge).toMatch(/^Basic realm="Rookery"/)
    return
  }
  expect(challenge).toMatch(/^Bearer realm="http:\/\/127\.0\.0\.1:\d+\/token",service="[^"]+"/)
  const scope = /scope="([^"]*)"/.exec(challenge)?.[1]
  const asked = { pull: 'pull', push: 'pull,push', delete: 'delete' } as Record<string, string>
  const { needs } = ROUTE_RIGHTS[row] as RouteRights
  const named = row.includes('*repository') ? `repository:a/b:${asked[needs]}` : undefined
  expect(scope).toBe(row.endsWith('_catalog') ? 'registry:catalog:*' : named)
  const error = /error="([^"]*)"/.exec(challenge)?.[1]
  const description = /,error_description="([^"]*)"$/.exec(challenge)?.[1]
  // RFC 6750, section 3: these characters; and proxies accept a few KiB of headers.
  if (error === undefined) expect(description).toBeUndefined()
  else expect(description).toMatch(/^[ !#-[\]-~]{1,503}$/)
  const tooSmall = kind === 'holder' || (kind === 'nobody' && scheme === 'bearer')
  const isBad = kind === 'bad' || kind === 'expired token'
  expect(error).toBe(isBad ? 'invalid_token' : tooSmall ? 'insufficient_scope' : undefined)
}

function addressOf(row: string, who: string): string {
  const hash = digestOf(`${row} ${who}`).slice(7)
  return `10.${[0, 2, 4].map((at) => Number.parseInt(hash.slice(at, at + 2), 16)).join('.')}`
}
