import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { createTestDatabase } from '../support/database.ts'
import { registryAt } from '../support/process-registry.ts'
import { newRepository, pushImage } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'

/** OTLP 1.0, JSON encoding: a span, as far as this test reads it. */
type Span = {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly attributes: readonly { readonly key: string; readonly value: { stringValue?: string } }[]
}
type Export = {
  readonly resourceSpans: readonly {
    readonly scopeSpans: readonly { readonly spans: readonly Span[] }[]
  }[]
}

const REGISTER = new URL('../support/opentelemetry.register.ts', import.meta.url).href
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const PARENT = '00f067aa0ba902b7'
const EXPORT_MILLISECONDS_MAX = 20_000

const spans: Span[] = []
let collector: Server
let database: Awaited<ReturnType<typeof createTestDatabase>>
let folder: string
let server: ServerProcess
let registry: TestRegistry

beforeAll(async () => {
  collector = createServer(async (req, res) => {
    if (req.url === '/v1/traces') {
      const { resourceSpans } = (await json(req)) as Export
      spans.push(
        ...resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((one) => one.spans)),
      )
    }
    res.setHeader('Content-Type', 'application/json').end('{}')
  }).listen(0, '127.0.0.1')
  await once(collector, 'listening')
  database = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'rookery-traces-'))
  const settings = {
    ROOKERY_DATA_DIR: folder,
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_ADMIN_PASSWORD: 'traces of the tests',
    ROOKERY_LOG_LEVEL: 'debug',
  }
  server = await startProcess({
    ...settings,
    NODE_OPTIONS: `--import tsx --import ${REGISTER}`,
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
    OTEL_BSP_SCHEDULE_DELAY: '100',
  })
  registry = registryAt(server.url, folder, settings)
})

afterAll(async () => {
  await stopProcess(server)
  collector.close()
  await database.drop()
  await rm(folder, { recursive: true, force: true })
})

it('a pull is a span with its route, and its statements are spans with their names', async () => {
  const repository = newRepository()
  await pushImage(registry, repository, 'v1')
  const answer = await registry.request(`/v2/${repository}/manifests/v1`, {
    headers: { traceparent: `00-${TRACE}-${PARENT}-01` },
  })
  expect(answer.status).toBe(200)
  const [pull, statements] = await vi.waitFor(
    () => {
      const ours = spans.filter(({ traceId }) => traceId === TRACE)
      const found = ours.find(({ parentSpanId }) => parentSpanId === PARENT)
      const below = ours.filter(({ name }) => name.startsWith('pg.query:'))
      expect(found).toBeDefined()
      expect(below.length).toBeGreaterThan(0)
      return [found as Span, below] as const
    },
    { timeout: EXPORT_MILLISECONDS_MAX, interval: 50 },
  )
  const route = '/v2/*repository/manifests/:reference'
  expect(pull.name).toBe(`GET ${route}`)
  expect(pull.attributes).toContainEqual({ key: 'http.route', value: { stringValue: route } })
  expect(answer.headers.get('traceresponse')).toBe(`00-${TRACE}-${pull.spanId}-01`)
  expect(statements.map(({ name }) => name.split(/[: ]/)[1])).toContain('findManifests')
})
