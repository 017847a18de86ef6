import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { allRoutes, type RouteDeps } from '../../src/http/routes.ts'
import { openTokenMinter, sql } from '../auth/credentials-client.ts'
import { logIn } from '../auth/session-client.ts'
import { encodeExec, runOf } from '../builder-web/exec.ts'
import { addDeployment } from '../deployments/deployment-rows.ts'
import { digestOf } from '../support/digest.ts'
import { pushBlob } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { credentialWithOrigin, revokeUnnoticed } from './unnoticed-revocation.ts'

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const ALL_ROUTES = allRoutes({ auth: {}, builderWeb: {} } as RouteDeps)
const PAGE_PATHS = new Set(
  ALL_ROUTES.filter(({ page }) => page).map(({ method, path }) => `${method} ${path}`),
)
const EMPTY = digestOf('{}')
const manifestOf = (name: string) =>
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: EMPTY, size: 2 },
    layers: [],
    annotations: { name },
  })

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
    ROOKERY_BUILDER_WEB: 'on',
  })
})
afterAll(() => registry.close())

const COUNTED = `select (select count(*) from repositories) as repositories,
  (select count(*) from uploads) as uploads, (select sum(size) from uploads) as bytes,
  (select count(*) from repository_blobs) as blobs, (select count(*) from manifests) as manifests,
  (select string_agg(name || digest, ',' order by name) from tags) as tags,
  (select count(*) from builds) as builds,
  (select count(*) from credentials) as credentials, (select count(*) from trust_policies) as policies,
  (select string_agg(name || secrets_jwe || coalesce(removed_at::text, ''), ',') from webhooks) as webhooks,
  (select count(*) from upload_urls) as urls, (select count(*) from enrolments) as codes,
  (select string_agg(name || state || labels::text, ',' order by id) from hosts) as hosts, (select count(*) from revocations) as revocations,
  (select string_agg(number || state, ',' order by id) from deployments) as deployments,
  (select count(*) from rollouts) as rollouts,
  (select count(*) from refresh_tokens) as "refreshTokens",
  (select string_agg(id::text || ends_at, ',' order by id) from sessions) as sessions,
  (select string_agg(visibility || immutable_tags::text, ',' order by id) from repositories) as settings,
  (select count(*) from audit where decision = 'allowed') as changes`

const HOUR_AGO = new Date(Date.now() - 3_600_000).toISOString()
const ADMIN_ACCESS = [{ type: 'registry', name: 'admin', actions: ['*'] }] as const

/** Rights of an administrator, and the subject whose revocation ends them. */
const ADMINS = {
  credential: async () => {
    const { authorization, origin, name } = await credentialWithOrigin(registry, { kind: 'admin' })
    return { authorization, subject: origin, name }
  },
  key: async () => {
    const minter = await openTokenMinter(registry)
    const name = 'of-a-token'
    const { token } = await minter.tokens.mint({ subject: name, access: [...ADMIN_ACCESS] }, 300)
    await minter.close()
    const { kid } = JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString())
    return { authorization: `Bearer ${token}`, subject: `key:${kid}`, name }
  },
}

describe('a right that is revoked after the door', () => {
  it.each(['credential', 'key'] as const)('writes nothing on any route: a %s', async (kind) => {
    const put = (reference: string, body: string) =>
      registry.request(`/v2/a/b/manifests/${reference}`, {
        method: 'PUT',
        headers: { 'content-type': MANIFEST },
        body,
      })
    await pushBlob(registry, 'a/b', Buffer.from('{}'))
    await pushBlob(registry, 'a/b', Buffer.from('layer'))
    expect((await put('v1', manifestOf(`one ${kind}`))).status).toBe(201)
    expect((await put('v1', manifestOf(`two ${kind}`))).status).toBe(201)
    const json = { 'content-type': 'application/json' }
    const hook = { name: `hook-${kind}`, url: 'http://127.0.0.1:4/', repositories: ['**'] }
    const post = (path: string, body: object) =>
      registry.request(path, { method: 'POST', headers: json, body: JSON.stringify(body) })
    expect((await post('/api/v1/webhooks', hook)).status).toBe(201)
    const test = await post(`/api/v1/webhooks/${hook.name}/test`, {})
    const { event } = (await test.json()) as { event: string }
    await expect
      .poll(async () => (await sql(registry, 'select 1 from deliveries')).length)
      .toBeGreaterThan(0)
    const policy = {
      name: `ci-${kind}`,
      issuer: 'https://ci.example.org',
      audience: 'rookery',
      conditions: { sub: 'repo:acme/kernel:main' },
      repositories: ['a/**'],
      actions: ['push'],
    }
    expect((await post('/api/v1/policies', policy)).status).toBe(201)
    const deployment = await addDeployment(registry, 'a/b', { tag: 'v1' })
    const host = `host-${kind}`
    expect((await post('/api/v1/hosts', { name: host, repositories: ['a/**'] })).status).toBe(201)
    const other = await credentialWithOrigin(registry, { repositories: ['x'], actions: ['pull'] })
    await logIn(registry, { name: 'admin', secret: registry.password })
    const [session] = await sql<{ id: string }>(registry, 'select id from sessions')
    const { authorization, subject, name } = await ADMINS[kind]()
    const started = await registry.anonymous('/v2/a/b/blobs/uploads/', {
      method: 'POST',
      headers: { authorization },
    })
    const upload = started.headers.get('location') ?? ''
    await revokeUnnoticed(registry, subject)
    const before = await sql(registry, COUNTED)
    const form = new FormData()
    form.append('kernel', new Blob(['a kernel']), 'kernel.hvt')
    const report = new FormData()
    report.append('console', new Blob(['failed']), 'console')
    const cases: Record<string, [path: string, body?: string | Buffer | object | FormData]> = {
      'POST /v2/*repository/blobs/uploads/': ['/v2/new/one/blobs/uploads/'],
      'PATCH /v2/*repository/blobs/uploads/:upload': [upload, 'bytes'],
      'PUT /v2/*repository/blobs/uploads/:upload': [`${upload}?digest=${digestOf('x')}`, 'x'],
      'DELETE /v2/*repository/blobs/uploads/:upload': [upload],
      'DELETE /v2/*repository/blobs/:digest': [`/v2/a/b/blobs/${digestOf('layer')}`],
      'PUT /v2/*repository/manifests/:reference': ['/v2/a/b/manifests/v3', manifestOf('three')],
      'DELETE /v2/*repository/manifests/:reference': ['/v2/a/b/manifests/v1'],
      'POST /token': ['/token', 'grant_type=password&service=x&username=a&password=b'],
      'POST /api/v1/credentials': ['/api/v1/credentials', { name: 'backdoor', kind: 'admin' }],
      'DELETE /api/v1/credentials/:name': [`/api/v1/credentials/${other.name}`],
      'POST /api/v1/credentials/:name/rotate-secret': [
        `/api/v1/credentials/${other.name}/rotate-secret`,
        {},
      ],
      'POST /credentials/:name/revoke': [`/credentials/${other.name}/revoke`],
      'DELETE /api/v1/sessions': ['/api/v1/sessions?actor=admin'],
      'DELETE /api/v1/sessions/:session': [`/api/v1/sessions/${session?.id}`],
      'POST /sessions/:session/end': [`/sessions/${session?.id}/end`],
      'POST /sessions/end-others': ['/sessions/end-others'],
      'DELETE /api/v1/repositories/*repository': ['/api/v1/repositories/a/b'],
      'POST /api/v1/policies': ['/api/v1/policies', { ...policy, name: 'other' }],
      'DELETE /api/v1/policies/:name': [`/api/v1/policies/${policy.name}`],
      'POST /api/v1/enrolments': ['/api/v1/enrolments', { name: 'spy', repositories: ['a/**'] }],
      'POST /api/v1/hosts': ['/api/v1/hosts', { name: 'spy', repositories: ['a/**'] }],
      'PATCH /api/v1/hosts/:host': [`/api/v1/hosts/${host}`, { labels: { site: 'a' } }],
      'DELETE /api/v1/hosts/:host': [`/api/v1/hosts/${host}`],
      'POST /api/v1/hosts/:host/approve': [
        `/api/v1/hosts/${host}/approve`,
        { fingerprint: 'a'.repeat(43), repositories: ['a/**'] },
      ],
      'POST /hosts/:host/approve': [
        `/hosts/${host}/approve`,
        `fingerprint=${'a'.repeat(43)}&repositories=a/**`,
      ],
      'POST /hosts/:host/revoke': [`/hosts/${host}/revoke`],
      'PUT /api/v1/rollouts/:name': ['/api/v1/rollouts/all', { repositories: ['a/**'] }],
      'DELETE /api/v1/rollouts/:name': [`/api/v1/rollouts/${policy.name}`],
      ...Object.fromEntries(
        ['/api/v1/deployments', '/deployments'].flatMap((path) =>
          ['pause', 'resume', 'cancel', 'retry'].map((change) => [
            `POST ${path}/:deployment/${change}`,
            [`${path}/${deployment}/${change}`] as [string],
          ]),
        ),
      ),
      'DELETE /api/v1/tokens/:id': ['/api/v1/tokens/7a6b4bd5-1fc4-4ad4-9a4b-5d10e8bd1d46'],
      'PUT /api/v1/repositories/*repository/settings': [
        '/api/v1/repositories/a/b/settings',
        { visibility: 'private' },
      ],
      'POST /api/v1/repositories/*repository/tags/:tag/upload-urls': [
        '/api/v1/repositories/a/b/tags/v9/upload-urls',
        {},
      ],
      'POST /api/v1/repositories/*repository/builds': ['/api/v1/repositories/a/b/builds', report],
      'POST /api/v1/repositories/*repository/images': ['/api/v1/repositories/a/b/images', form],
      'POST /api/v1/repositories/*repository/tags/:tag/rollback': [
        '/api/v1/repositories/a/b/tags/v1/rollback',
        {},
      ],
      'POST /r/*repository/-/tags/:tag/rollback': [
        '/r/a/b/-/tags/v1/rollback',
        `digest=${digestOf(manifestOf(`one ${kind}`))}`,
      ],
      'POST /upload': ['/upload', encodeExec({ ...runOf('hello-key-1'), job: 'new~job' })],
      'POST /job/:job/platform/:platform/upload': [
        '/job/new~job/platform/debian-12/upload?binary_name=x.deb',
        'a binary',
      ],
      'POST /api/v1/webhooks': ['/api/v1/webhooks', { ...hook, name: 'spy' }],
      'PATCH /api/v1/webhooks/:name': [`/api/v1/webhooks/${hook.name}`, { paused: true }],
      'DELETE /api/v1/webhooks/:name': [`/api/v1/webhooks/${hook.name}`],
      'POST /api/v1/webhooks/:name/rotate-secret': [
        `/api/v1/webhooks/${hook.name}/rotate-secret`,
        {},
      ],
      'POST /api/v1/webhooks/:name/test': [`/api/v1/webhooks/${hook.name}/test`, {}],
      'POST /api/v1/webhooks/:name/deliveries/:event/redeliver': [
        `/api/v1/webhooks/${hook.name}/deliveries/${event}/redeliver`,
        {},
      ],
      'POST /api/v1/webhooks/:name/redeliver': [
        `/api/v1/webhooks/${hook.name}/redeliver`,
        { after: HOUR_AGO },
      ],
      ...Object.fromEntries(
        ['pause', 'resume', 'test', 'redeliver'].map((change) => [
          `POST /webhooks/:name/${change}`,
          [`/webhooks/${hook.name}/${change}`, `after=${HOUR_AGO}`] as [string, string],
        ]),
      ),
      'POST /webhooks/:name/deliveries/:event/redeliver': [
        `/webhooks/${hook.name}/deliveries/${event}/redeliver`,
      ],
    }
    // These write nothing under the right of a credential in the Authorization header.
    const without = [
      'POST /api/v1/policies/test',
      'POST /api/v1/hosts/enrol',
      // The login is in the form: test/auth/sessions.slow.test.ts revokes one.
      'POST /login',
      'POST /logout',
      // Only a host may call it: test/hosts/attacks.test.ts revokes one.
      'POST /api/v1/hosts/:host/keys',
      // Only a host may call these: test/deployments/reports.test.ts revokes one.
      'PUT /api/v1/hosts/:host/units/:unit',
      'DELETE /api/v1/hosts/:host/units/:unit',
      'PUT /upload/:secret',
      'PUT /upload/:secret/:file',
    ]
    const writing = ALL_ROUTES.filter(({ method }) => method !== 'GET' && method !== 'HEAD').map(
      ({ method, path }) => `${method} ${path}`,
    )
    expect([...Object.keys(cases), ...without].sort()).toEqual([...writing].sort())
    for (const [route, [path, body]] of Object.entries(cases)) {
      const isJson =
        typeof body === 'object' && !(body instanceof FormData || Buffer.isBuffer(body))
      const type = route.includes('/manifests/')
        ? MANIFEST
        : route === 'POST /token' || (PAGE_PATHS.has(route) && body !== undefined)
          ? 'application/x-www-form-urlencoded'
          : isJson
            ? 'application/json'
            : 'application/octet-stream'
      const answer = await registry.anonymous(path, {
        method: route.split(' ')[0] ?? '',
        headers: {
          authorization,
          ...(body instanceof FormData || body === undefined ? {} : { 'content-type': type }),
        },
        ...(body === undefined ? {} : { body: isJson ? JSON.stringify(body) : (body as string) }),
      })
      expect([route, answer.status]).toEqual([route, 401])
      await answer.arrayBuffer()
    }
    const minted = await registry.anonymous('/token?offline_token=true&scope=repository:a/b:push', {
      headers: { authorization },
    })
    expect(minted.status).toBe(401)
    expect(await sql(registry, COUNTED)).toEqual(before)
    const allowed = `select action from audit where actor = $1 and decision = 'allowed'`
    expect(await sql(registry, allowed, [name])).toEqual([])
  })
})
