import { AsyncLocalStorage } from 'node:async_hooks'
import { Server } from 'node:http'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Database } from '../../src/db/database.ts'
import { addDeployment } from '../deployments/deployment-rows.ts'
import { expectedOf, newestBuild, pushBuild } from '../images/image-fixtures.ts'
import { eventually } from '../support/eventually.ts'
import { enrolHost } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { answeredUrl, ROUTES, type Samples } from './route-paths.ts'

const REPOSITORY = 'mine/www'
const { input_id: INPUTS } = expectedOf('hello-key-2')
/** The start of a reader in the feed is one row, for any reader. */
const FEED_STATE = /^select .* from feed$/s

const MADE = { timeout: 20_000, interval: 200 }

type Sent = { readonly url: string; readonly statement: string }

let registry: TestRegistry
let samples: Samples
/** Statements on the connections of the registry, with the request that sent them. */
const sent: Sent[] = []

beforeAll(async () => {
  const requests = new AsyncLocalStorage<string>()
  const server = Server.prototype as { emit(name: string, ...rest: unknown[]): boolean }
  const { emit } = server
  vi.spyOn(server, 'emit').mockImplementation(function (this: Server, name, ...rest) {
    const run = () => Reflect.apply(emit, this, [name, ...rest]) as boolean
    const [request] = rest as [{ readonly url: string }]
    return name === 'request' ? requests.run(request.url, run) : run()
  })
  const { query, transaction } = Database.prototype
  const record = (statement: string) => {
    const url = requests.getStore()
    if (url !== undefined) sent.push({ url, statement })
  }
  vi.spyOn(Database.prototype, 'query').mockImplementation(function (this: Database, text, values) {
    record(text)
    return Reflect.apply(query, this, [text, values])
  })
  vi.spyOn(Database.prototype, 'transaction').mockImplementation(function (this: Database, work) {
    record('begin')
    return Reflect.apply(transaction, this, [work])
  })
  registry = await startRegistry()
  await post('/api/v1/webhooks', {
    name: 'deploy',
    url: 'https://receiver.example/hook',
    repositories: ['mine/**'],
    paused: true,
  })
  // An earlier build with another kernel, to compare with.
  await pushBuild(registry, REPOSITORY, 'v0', 'hello-key-1')
  const manifest = await pushBuild(registry, REPOSITORY, 'v1', 'hello-key-2')
  const details = await registry.request(`/api/v1/repositories/${REPOSITORY}/images/v1`)
  const { kernel } = (await details.json()) as { kernel: { digest: string } }
  const deliveries = async () => {
    const answer = await registry.request('/api/v1/webhooks/deploy/deliveries')
    return ((await answer.json()) as { deliveries: { event: string }[] }).deliveries
  }
  const event = await eventually(async () => {
    const [delivery] = await deliveries()
    if (delivery === undefined) throw new Error('there is no delivery yet')
    return delivery.event
  })
  samples = {
    repository: REPOSITORY,
    tag: 'v1',
    manifest,
    kernel: kernel.digest,
    inputId: INPUTS,
    package: 'bigstringaf',
    webhook: 'deploy',
    event,
    build: await newestBuild(registry, REPOSITORY),
    deployment: await addDeployment(registry, REPOSITORY),
    host: (await enrolHost(registry)).name,
  }
})
afterAll(async () => {
  await registry.close()
  vi.restoreAllMocks()
})

async function post(path: string, body: object): Promise<void> {
  const headers = { 'content-type': 'application/json' }
  const answer = await registry.request(path, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
  })
  expect(answer.status).toBe(201)
}

const readRoutes = ROUTES.flatMap((route) => ('reads' in route ? [route] : []))

describe('every route that reads', () => {
  it('declares what it reads', () => {
    const reading = ROUTES.filter(({ method }) => method === 'GET' || method === 'HEAD')
    expect(reading).toEqual(readRoutes)
    expect(readRoutes.length).toBeGreaterThan(30)
    for (const { reads } of readRoutes) expect(['nothing', 'rows', 'question']).toContain(reads)
  })

  it('is a question when its answer is a list', () => {
    for (const { path, reads } of readRoutes) {
      const last = path.split('/').at(-1) ?? ''
      const isList = /^(?:.*s|list|_catalog|history|audit|:ecosystem)$/.test(last)
      const others = [
        '/metrics',
        '/assets/style.css',
        '/assets/script.js',
        '/packages',
        '/.well-known/jwks.json',
        '/api/v1/repositories/*repository/settings',
      ]
      if (isList && !others.includes(path)) expect([path, reads]).toEqual([path, 'question'])
    }
  })
})

describe('a question', () => {
  it.each(readRoutes.filter(({ reads }) => reads === 'question').map(({ path }) => path))(
    'runs no statement on the connections of the registry: %s',
    async (pattern) => {
      const path = answeredUrl(pattern, samples)
      // The first requests find the credential, and have a picture made.
      await vi.waitFor(
        async () => expect([path, (await registry.request(path)).status]).toEqual([path, 200]),
        MADE,
      )
      sent.length = 0
      expect((await registry.request(path)).status).toBe(200)
      const own = sent.filter(({ url, statement }) => url === path && !FEED_STATE.test(statement))
      expect(own).toEqual([])
    },
  )

  it('is the only kind of request that the test above sees without statements', async () => {
    const path = `/v2/${REPOSITORY}/tags/list`
    // The first read of a manifest by a client is recorded.
    await registry.request(`/v2/${REPOSITORY}/manifests/v1`)
    sent.length = 0
    await registry.request(`/v2/${REPOSITORY}/manifests/v1`)
    await registry.request(path)
    expect(sent.map(({ url }) => url)).toEqual([`/v2/${REPOSITORY}/manifests/v1`])
  })
})
