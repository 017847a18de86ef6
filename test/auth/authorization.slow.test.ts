import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { allRoutes, type RouteDeps } from '../../src/http/routes.ts'
import { digestOf } from '../support/digest.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { type Action, CALLERS, type Caller } from './caller-kinds.ts'

// With the paths of builder-web, which a setting adds.
const rows = allRoutes({ auth: {}, builderWeb: {} } as RouteDeps)

/** The access that a row requires, and its status for a caller with that access and missing content. */
type Row = {
  /**
   * `anybody`; `somebody`: any credential or token; `holder`: the same without tokens of anonymous callers;
   * `host`: the host of the path, and nobody else; `all`: an administrator; `metrics`: also a credential for the metrics; or an action.
   */
  needs: 'anybody' | 'somebody' | 'holder' | 'host' | 'metrics' | 'all' | Action
  answers: number
  /** True when anonymous callers are refused, also for public content. */
  login?: true
  /** True when it sets or removes the tag `missing`. */
  tag?: true
  /** True when it accepts an expired token. */
  finishes?: true
  /** True when the response does not depend on the repository. */
  ignoresRepository?: true
  /** True when it deletes the repository. */
  destroys?: true
  /** True for a page for people. */
  page?: true
  /** True when the handler itself authenticates the caller. */
  authenticatesItself?: true
}

const TABLE: Record<string, Row> = {
  'GET /v2/': { needs: 'somebody', answers: 200 },
  'GET /v2': { needs: 'somebody', answers: 200 },
  'GET /v2/_oci/ext/discover': { needs: 'somebody', answers: 200 },
  'GET /v2/*repository/_oci/ext/discover': { needs: 'pull', answers: 200, ignoresRepository: true },
  'POST /v2/*repository/blobs/uploads/': { needs: 'push', answers: 202 },
  'PATCH /v2/*repository/blobs/uploads/:upload': { needs: 'push', answers: 404, finishes: true },
  'PUT /v2/*repository/blobs/uploads/:upload': { needs: 'push', answers: 400, finishes: true },
  'GET /v2/*repository/blobs/uploads/:upload': { needs: 'push', answers: 404, finishes: true },
  'DELETE /v2/*repository/blobs/uploads/:upload': { needs: 'push', answers: 404, finishes: true },
  'HEAD /v2/*repository/blobs/:digest': { needs: 'pull', answers: 404 },
  'GET /v2/*repository/blobs/:digest': { needs: 'pull', answers: 404 },
  'DELETE /v2/*repository/blobs/:digest': { needs: 'delete', answers: 404 },
  'HEAD /v2/*repository/manifests/:reference': { needs: 'pull', answers: 404 },
  'GET /v2/*repository/manifests/:reference': { needs: 'pull', answers: 404 },
  'PUT /v2/*repository/manifests/:reference': { needs: 'push', answers: 400, tag: true },
  'DELETE /v2/*repository/manifests/:reference': { needs: 'delete', answers: 404, tag: true },
  'GET /v2/*repository/tags/list': { needs: 'pull', answers: 200 },
  'GET /v2/*repository/referrers/:digest': { needs: 'pull', answers: 200 },
  'GET /v2/_catalog': { needs: 'somebody', answers: 200 },
  'GET /healthz': { needs: 'anybody', answers: 200 },
  'GET /readyz': { needs: 'anybody', answers: 200 },
  'GET /metrics': { needs: 'metrics', answers: 200 },
  'GET /token': { needs: 'anybody', answers: 200, authenticatesItself: true },
  'POST /token': { needs: 'anybody', answers: 400 },
  'GET /agent': { needs: 'anybody', answers: 200 },
  'GET /agent.sha256': { needs: 'anybody', answers: 200 },
  'GET /.well-known/jwks.json': { needs: 'anybody', answers: 200 },
  'GET /.well-known/openid-configuration': { needs: 'anybody', answers: 200 },
  'POST /api/v1/credentials': { needs: 'all', answers: 400 },
  'GET /api/v1/credentials': { needs: 'all', answers: 200 },
  'DELETE /api/v1/credentials/:name': { needs: 'all', answers: 404 },
  'POST /api/v1/credentials/:name/rotate-secret': { needs: 'all', answers: 404 },
  'POST /api/v1/policies': { needs: 'all', answers: 400 },
  'GET /api/v1/policies': { needs: 'all', answers: 200 },
  'POST /api/v1/policies/test': { needs: 'all', answers: 400 },
  'GET /api/v1/policies/:name': { needs: 'all', answers: 404 },
  'DELETE /api/v1/policies/:name': { needs: 'all', answers: 404 },
  'POST /api/v1/enrolments': { needs: 'holder', answers: 400 },
  'POST /api/v1/hosts': { needs: 'holder', answers: 400 },
  'GET /api/v1/hosts': { needs: 'holder', answers: 200 },
  'GET /api/v1/hosts/:host': { needs: 'holder', answers: 404 },
  'PATCH /api/v1/hosts/:host': { needs: 'holder', answers: 400 },
  'DELETE /api/v1/hosts/:host': { needs: 'holder', answers: 404 },
  'POST /api/v1/hosts/:host/approve': { needs: 'holder', answers: 400 },
  'POST /api/v1/hosts/enrol': { needs: 'anybody', answers: 400 },
  'POST /api/v1/hosts/:host/keys': { needs: 'host', answers: 403 },
  'GET /api/v1/runs': { needs: 'holder', answers: 200 },
  'GET /api/v1/hosts/:host/desired': { needs: 'host', answers: 403 },
  'PUT /api/v1/hosts/:host/units/:unit': { needs: 'host', answers: 403 },
  'DELETE /api/v1/hosts/:host/units/:unit': { needs: 'host', answers: 403 },
  'DELETE /api/v1/tokens/:id': { needs: 'all', answers: 400 },
  'GET /api/v1/repositories/*repository/settings': { needs: 'admin', answers: 200 },
  'PUT /api/v1/repositories/*repository/settings': { needs: 'admin', answers: 400, tag: true },
  'DELETE /api/v1/repositories/*repository': {
    needs: 'admin',
    answers: 204,
    tag: true,
    destroys: true,
  },
  'POST /api/v1/repositories/*repository/tags/:tag/upload-urls': {
    needs: 'push',
    answers: 201,
    tag: true,
  },
  'GET /api/v1/repositories/*repository/builds': { needs: 'pull', answers: 200 },
  'POST /api/v1/repositories/*repository/builds': { needs: 'push', answers: 400 },
  'GET /api/v1/repositories/*repository/deployments': { needs: 'pull', answers: 200, login: true },
  'GET /api/v1/rollouts': { needs: 'holder', answers: 200 },
  'GET /api/v1/rollouts/:name': { needs: 'holder', answers: 404 },
  'PUT /api/v1/rollouts/:name': { needs: 'holder', answers: 400 },
  'DELETE /api/v1/rollouts/:name': { needs: 'holder', answers: 404 },
  'POST /api/v1/deployments/:deployment/pause': { needs: 'holder', answers: 404 },
  'POST /api/v1/deployments/:deployment/resume': { needs: 'holder', answers: 404 },
  'POST /api/v1/deployments/:deployment/cancel': { needs: 'holder', answers: 404 },
  'POST /api/v1/deployments/:deployment/retry': { needs: 'holder', answers: 404 },
  'GET /api/v1/deployments/:deployment': { needs: 'holder', answers: 404 },
  'GET /api/v1/repositories/*repository/builds/:build': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/builds/:build/console': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/builds/:build/script': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/builds/:build/readme': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/images/:reference/console': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/images/:reference/script': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/images/:reference/readme': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/images': { needs: 'pull', answers: 200 },
  'POST /api/v1/repositories/*repository/images': { needs: 'push', answers: 400 },
  'HEAD /api/v1/repositories/*repository/images/:reference/kernel': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/images/:reference/kernel': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/images/:reference': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/images/:reference/compare/:other': {
    needs: 'pull',
    answers: 404,
  },
  'GET /api/v1/repositories/*repository/images/:reference/compare': {
    needs: 'pull',
    answers: 404,
  },
  'GET /v2/*repository/_oci/tag-history/:tag': { needs: 'pull', answers: 404 },
  'GET /api/v1/repositories/*repository/tags/:tag/history': { needs: 'pull', answers: 404 },
  'POST /api/v1/repositories/*repository/tags/:tag/rollback': {
    needs: 'push',
    answers: 404,
    tag: true,
  },
  'GET /api/v1/repositories/*repository/images/:reference/documents/:format': {
    needs: 'pull',
    answers: 404,
  },
  'GET /api/v1/repositories/*repository/images/:reference/dependencies': {
    needs: 'pull',
    answers: 404,
  },
  'GET /api/v1/repositories/*repository/images/:reference/sizes': { needs: 'pull', answers: 404 },
  'GET /api/v1/events': { needs: 'anybody', answers: 200, authenticatesItself: true },
  'GET /api/v1/images': { needs: 'anybody', answers: 200, authenticatesItself: true },
  'GET /api/v1/kernels/:digest': { needs: 'anybody', answers: 200, authenticatesItself: true },
  'GET /api/v1/inputs/:inputId': { needs: 'anybody', answers: 200, authenticatesItself: true },
  'GET /api/v1/packages/:ecosystem/:name': {
    needs: 'anybody',
    answers: 200,
    authenticatesItself: true,
  },
  'GET /api/v1/sources': { needs: 'anybody', answers: 400, authenticatesItself: true },
  'PUT /upload/:secret': { needs: 'anybody', answers: 404 },
  'PUT /upload/:secret/:file': { needs: 'anybody', answers: 404 },
  'POST /upload': { needs: 'holder', answers: 400 },
  'POST /job/:job/platform/:platform/upload': { needs: 'push', answers: 400, tag: true },
  'GET /hash': { needs: 'anybody', answers: 400, authenticatesItself: true },
  'GET /job/:job/build/latest': { needs: 'pull', answers: 404 },
  'GET /job/:job/build/latest/*path': { needs: 'pull', answers: 404 },
  'GET /job/:job/build/:build': { needs: 'pull', answers: 404 },
  'GET /job/:job/build/:build/f/*path': { needs: 'pull', answers: 404 },
  'GET /job/:job/build/:build/main-binary': { needs: 'pull', answers: 404 },
  'GET /job/:job/build/:build/console': { needs: 'pull', answers: 404 },
  'GET /job/:job/build/:build/script': { needs: 'pull', answers: 404 },
  'GET /job/:job/build/:build/exec': { needs: 'pull', answers: 404 },
  'GET /compare/:left/:right': { needs: 'anybody', answers: 404, authenticatesItself: true },
  'GET /': { needs: 'anybody', answers: 200, authenticatesItself: true },
  'GET /all-builds': { needs: 'anybody', answers: 200, authenticatesItself: true },
  'GET /job/:job': { needs: 'pull', answers: 200 },
  'GET /job/:job/failed': { needs: 'pull', answers: 200 },
  'GET /failed-builds': { needs: 'anybody', answers: 200, authenticatesItself: true },
  'GET /robots.txt': { needs: 'anybody', answers: 200 },
  'GET /assets/style.css': { needs: 'anybody', answers: 200, page: true },
  'GET /assets/script.js': { needs: 'anybody', answers: 200, page: true },
  'GET /login': { needs: 'anybody', answers: 200, page: true },
  'POST /login': { needs: 'anybody', answers: 403, page: true },
  'POST /logout': { needs: 'anybody', answers: 303, page: true },
  'GET /repositories': { needs: 'anybody', answers: 200, page: true, authenticatesItself: true },
  'GET /r/*repository': { needs: 'pull', answers: 200, page: true },
  'GET /r/*repository/-/tags': { needs: 'pull', answers: 200, page: true },
  'GET /r/*repository/-/tags/:tag': { needs: 'pull', answers: 404, page: true },
  'POST /r/*repository/-/tags/:tag/rollback': {
    ...{ needs: 'push', answers: 400, tag: true, page: true },
  },
  'GET /api/v1/audit': { needs: 'all', answers: 200 },
  'POST /api/v1/webhooks': { needs: 'holder', answers: 400 },
  'GET /api/v1/webhooks': { needs: 'holder', answers: 200 },
  'GET /api/v1/webhooks/:name': { needs: 'holder', answers: 404 },
  'PATCH /api/v1/webhooks/:name': { needs: 'holder', answers: 400 },
  'DELETE /api/v1/webhooks/:name': { needs: 'holder', answers: 404 },
  'POST /api/v1/webhooks/:name/rotate-secret': { needs: 'holder', answers: 404 },
  'POST /api/v1/webhooks/:name/test': { needs: 'holder', answers: 404 },
  'GET /api/v1/webhooks/:name/deliveries': { needs: 'holder', answers: 404 },
  'GET /api/v1/webhooks/:name/deliveries/:event': { needs: 'holder', answers: 404 },
  'POST /api/v1/webhooks/:name/deliveries/:event/redeliver': { needs: 'holder', answers: 404 },
  'POST /api/v1/webhooks/:name/redeliver': { needs: 'holder', answers: 400 },
}

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
    .replace(':inputId', '0'.repeat(64))
    .replace(/:(reference|tag|name|id|secret|file|host)/, 'missing')
    .replace(/:(file|other|event|unit)/, 'missing')

/** Returns the status of a row for a caller, in a public or a private repository. */
function expected(row: string, caller: Caller, isPublic: boolean): number {
  const { page, needs } = TABLE[row] as Row
  const status = expectedOfApi(row, caller, isPublic)
  if (!page || status !== 401) return status
  const isReader = caller.kind === 'nobody' || caller.kind === 'holder'
  if (needs === 'pull' && isReader) return 404
  // A person without a login is sent to the form.
  return caller.scheme === 'none' ? 303 : 401
}

function expectedOfApi(row: string, caller: Caller, isPublic: boolean): number {
  const rule = TABLE[row] as Row
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
      Object.keys(TABLE).sort(),
    )
  })

  describe.each(Object.keys(TABLE))('%s', (row) => {
    it.each(Object.entries(CALLERS))('%s', async (who, caller) => {
      for (const visibility of ['public', 'private'] as const) {
        const answer = await ask(visibility, row, 'a/b', who)
        const wanted = expected(row, caller, visibility === 'public')
        expect({ visibility, status: answer.status }).toEqual({ visibility, status: wanted })
        const registry = registries[visibility]
        if (TABLE[row]?.destroys && answer.status === 204 && registry !== undefined) {
          await pushImage(registry, 'a/b', 'v1')
        }
        if (answer.status === 401 && !row.startsWith('POST /token')) {
          expectChallenge(row, caller, answer.headers['www-authenticate'])
        } else expect(answer.headers).not.toHaveProperty('www-authenticate')
        if (answer.status >= 400 && !row.startsWith('HEAD') && !TABLE[row]?.page) {
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
  const { needs } = TABLE[row] as Row
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
