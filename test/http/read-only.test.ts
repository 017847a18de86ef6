import { afterAll, beforeAll, describe, expect, it, type MockInstance, vi } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import type { Route } from '../../src/http/route.ts'
import { GarbageCollector } from '../../src/registry/maintenance/garbage.ts'
import { createLog } from '../../src/server/log.ts'
import { type RunningServer, startServer } from '../../src/server/server.ts'
import { BUILDER_WEB_ROUTES, pathOfRoute, ROUTES } from '../attacks/route-paths.ts'
import { eventually } from '../support/eventually.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const ALL = [...ROUTES, ...BUILDER_WEB_ROUTES]
const isRead = ({ method }: Route) => method === 'GET' || method === 'HEAD'
/** Writes that are not refused: logins, and the end of rights. */
const GOES_ON = [
  'POST /token',
  'POST /login',
  'POST /logout',
  'DELETE /api/v1/credentials/:name',
  'DELETE /api/v1/sessions',
  'DELETE /api/v1/sessions/:session',
  'DELETE /api/v1/tokens/:id',
  'POST /api/v1/policies/test',
  'POST /credentials/:name/revoke',
  'POST /sessions/:session/end',
  'POST /sessions/end-others',
]

let registry: TestRegistry
let server: RunningServer
let sweep: MockInstance<GarbageCollector['sweep']>
/** The collector of the registry that is not read-only. */
let sweeper: unknown
const repository = newRepository()
const names = { reference: 'v1', tag: 'v1' }

beforeAll(async () => {
  sweep = vi.spyOn(GarbageCollector.prototype, 'sweep')
  registry = await startRegistry({ ROOKERY_BUILDER_WEB: 'on' })
  await pushImage(registry, repository, 'v1')
  await eventually(() => expect(sweep).toHaveBeenCalled())
  sweeper = sweep.mock.contexts[0]
  const config = parseConfig({ ...registry.settings, ROOKERY_READ_ONLY: 'on' })
  server = await startServer(config, createLog('silent'), (error) => {
    throw error
  })
})

afterAll(async () => {
  await server.close()
  await registry.close()
  sweep.mockRestore()
})

const authorization = () => `Basic ${Buffer.from(`admin:${registry.password}`).toString('base64')}`

const ask = (url: string, { method, path }: Route) =>
  fetch(new URL(pathOfRoute(path, repository, names), url), {
    method,
    headers: { authorization: authorization() },
    redirect: 'manual',
  })

const titled = (routes: readonly Route[]) =>
  routes.map((route) => [`${route.method} ${route.path}`, route] as const)

describe('a registry that is read-only', () => {
  it.each(
    titled(ALL.filter((one) => !isRead(one) && !one.inReadOnlyMode && one.access !== 'host')),
  )('refuses %s with 405, and says why', async (_, route) => {
    const answer = await ask(server.url, route)
    const text = await answer.text()
    expect({ status: answer.status, text }).toMatchObject({ status: 405 })
    expect(text).toContain('the registry is read-only at the moment')
    const { allow } = Object.fromEntries(answer.headers)
    expect(allow).toMatch(/^$|^(HEAD|GET)(, (HEAD|GET))*$/)
  })

  it.each(titled(ALL.filter((one) => !isRead(one) && one.access === 'host')))(
    'lets a host repeat %s later',
    async (_, route) => {
      const answer = await ask(server.url, route)
      expect(answer.status).toBe(503)
      expect(answer.headers.get('retry-after')).toBe('60')
      expect(await answer.text()).toContain('the registry is read-only at the moment')
    },
  )

  it('goes on with logins and with the end of rights', async () => {
    const going = ALL.filter((one) => one.inReadOnlyMode)
    expect(
      titled(going)
        .map(([title]) => title)
        .sort(),
    ).toEqual([...GOES_ON].sort())
    for (const route of going) expect((await ask(server.url, route)).status).not.toBe(405)
    const scope = `repository:${repository}:pull,push`
    const token = await fetch(new URL(`/token?service=x&scope=${scope}`, server.url), {
      headers: { authorization: authorization() },
    })
    const { access_token: bearer } = (await token.json()) as { access_token: string }
    const pulled = await fetch(new URL(`/v2/${repository}/manifests/v1`, server.url), {
      headers: { authorization: `Bearer ${bearer}` },
    })
    expect(pulled.status).toBe(200)
  })

  it.each(titled(ALL.filter(isRead)))('answers %s as before', async (_, route) => {
    const [before, now] = await Promise.all([ask(registry.url, route), ask(server.url, route)])
    await Promise.all([before.body?.cancel(), now.body?.cancel()])
    expect([now.status, now.headers.get('content-type')]).toEqual([
      before.status,
      before.headers.get('content-type'),
    ])
  })

  it('collects no garbage', async () => {
    expect((await fetch(new URL('/readyz', server.url))).status).toBe(200)
    expect(sweep.mock.contexts.filter((one) => one !== sweeper)).toEqual([])
  })
})
