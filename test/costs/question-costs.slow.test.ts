import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Transaction } from '../../src/db/database.ts'
import { DELIVERY_STATES } from '../../src/db/webhooks/deliveries.ts'
import { answeredPath, ROUTES, type Samples } from '../attacks/route-paths.ts'
import { addDeployment, DIGEST } from '../deployments/deployment-rows.ts'
import { expectedOf, newestBuild, pushBuild } from '../images/image-fixtures.ts'
import { eventually } from '../support/eventually.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { BACKGROUND } from './background.ts'
import { addRareRows, grow, RARE } from './seed.ts'
import { countPages, recordStatements, type Statement, statementsOf } from './statements.ts'

const REPOSITORY = 'mine/www'
const { input_id: INPUTS } = expectedOf('hello-key-2')
const SOURCE = 'https://github.com/Solo5/solo5'
/** A checksum of that source in the sample. */
const CHECKSUM =
  'sha512=168026cce7ffceabe5f90a6c85f915f33ab30332ee81338bc4e08560917036910fdb386484579d4ae29f5bf90744a39d025c729e88098d495f0409626be94914'
/** More than a page reads when few rows match several filters. */
const ROWS = 2_200
const FACTOR = 4

/** Several filters compare up to 2000 rows of an index, each on a page of its own at worst. */
const SCANNED_PAGES_MAX = 1_000

/** A search compares a bounded number of repositories, and the page of a repository counts a bounded number of units. */
const BOUNDED_PAGES_MAX = [
  ['/search?', SCANNED_PAGES_MAX],
  [`/r/${REPOSITORY}?`, SCANNED_PAGES_MAX],
] as const

/**
 * Growth of an answer with FACTOR times as many rows. An index has one level more, and rows that are compared up to a bound
 * come from another of their indexes: 1.5 times as many pages. Answers that read all rows grow by FACTOR.
 */
const GROWTH_MAX = 1.7
/** Pages that a short answer may read more. */
const GROWTH_PAGES_MAX = 40

/** Pages that an answer may read with FACTOR times as many rows. */
function pagesAllowed(request: string, before: number): number {
  const bounded = BOUNDED_PAGES_MAX.find(([start]) => request.startsWith(`administrator ${start}`))
  if (bounded !== undefined) return bounded[1]
  const filters = request.split('&').length - 1
  return Math.max(before * GROWTH_MAX + GROWTH_PAGES_MAX, filters > 1 ? SCANNED_PAGES_MAX : 0)
}

/** Every combination of the filters, each with a small page. */
function combined(...filters: string[]): string[] {
  return filters
    .reduce<string[][]>((sets, filter) => sets.flatMap((set) => [set, [...set, filter]]), [[]])
    .map((set) => ['n=20', ...set].join('&'))
}

const CALLERS = ['administrator', 'stranger', 'member', 'guest'] as const
type Caller = (typeof CALLERS)[number]
const ADMINISTRATOR = ['administrator'] as const
/**
 * Routes whose answer depends on the repositories that the caller may see. Searches for a kernel, inputs or a package pass
 * over private images of others with the same content, as many as there are: they must not change the answer.
 */
const BY_CALLER: readonly string[] = [
  ...['/v2/_catalog', '/api/v1/events', '/api/v1/webhooks', '/api/v1/hosts'],
  ...['/api/v1/deployments', '/hosts', '/webhooks'],
]

const NONE = ['']
const SINCE = 'since=2020-01-01T00:00:00Z'
/** The queries of each route that reads: every combination of its filters. */
const QUERIES: Readonly<Record<string, readonly string[]>> = {
  '/v2/': NONE,
  '/v2/*repository/tags/list': ['n=20', 'n=20&last=t2'],
  '/v2/*repository/referrers/:digest': [
    ...combined('artifactType=application/vnd.common'),
    `n=20&artifactType=${RARE.artifactType}`,
    'n=20&artifactType=application/vnd.missing',
  ],
  '/v2/_catalog': ['n=20', 'n=20&last=mine', 'n=20&last=open/5', 'n=20&last=p'],
  '/v2/*repository/manifests/:reference': NONE,
  '/v2/*repository/blobs/:digest': NONE,
  '/v2/*repository/_oci/tag-history/:tag': ['n=20'],
  '/api/v1/repositories/*repository/tags/:tag/history': ['n=20'],
  '/api/v1/repositories/*repository/settings': NONE,
  '/api/v1/repositories/*repository/images': combined(
    'target=hvt',
    'abi=1',
    'arch=x86_64',
    'device=net',
    'builder=admin',
  ).concat([`n=20&target=${RARE.target}`]),
  '/api/v1/repositories/*repository/builds': combined(
    'platform=debian-12',
    'result=succeeded',
    'builder=admin',
    `input=${INPUTS}`,
  ).concat([
    'n=20&result=failed',
    'n=20&builder=nobody',
    'n=20&platform=none',
    'n=20&result=error&builder=nobody',
  ]),
  '/api/v1/repositories/*repository/deployments': combined('tag=v1', `digest=${DIGEST}`).concat([
    `n=20&digest=${RARE.digest}`,
    'n=20&tag=none',
  ]),
  '/api/v1/rollouts': ['n=20', 'n=20&last=r2'],
  '/api/v1/rollouts/:name': NONE,
  '/api/v1/deployments': ['n=20', 'n=20&state=succeeded', 'n=20&state=halted'],
  '/api/v1/deployments/:deployment': NONE,
  '/': NONE,
  '/repositories': ['', 'last=open/5'],
  '/r/*repository': NONE,
  '/r/*repository/-/tags': ['', 'last=t2'],
  '/r/*repository/-/tags/:tag': NONE,
  '/r/*repository/-/images': ['', 'tagged=true', 'target=hvt'],
  '/r/*repository/-/images/:reference': NONE,
  '/r/*repository/-/images/:reference/graph': ['', 'package=lwt'],
  '/r/*repository/-/images/:reference/size': NONE,
  '/r/*repository/-/compare/:pair': NONE,
  '/r/*repository/-/builds': NONE,
  '/r/*repository/-/builds/:build': NONE,
  '/packages/:ecosystem/:name': ['', 'version=%3C9'],
  '/kernels/:digest': NONE,
  '/inputs/:inputId': NONE,
  '/search': ['q=mine', `q=${REPOSITORY}`, 'q=v1', 'q=bigstringaf%3C9', 'q=h1', `q=${INPUTS}`],
  '/deployments': NONE,
  '/deployments/:deployment': NONE,
  '/deployments/:deployment/stream': NONE,
  '/hosts': [...combined('label=site%3Da'), 'state=pending', 'state=revoked'],
  '/hosts/:host': NONE,
  '/credentials': ['', 'last=c2'],
  '/webhooks': ['', 'last=w2'],
  '/webhooks/:name': ['', ...DELIVERY_STATES.map((state) => `state=${state}`)],
  '/webhooks/:name/deliveries/:event': NONE,
  '/api/v1/repositories/*repository/builds/:build': NONE,
  '/api/v1/repositories/*repository/builds/:build/console': NONE,
  '/api/v1/repositories/*repository/builds/:build/script': NONE,
  '/api/v1/repositories/*repository/builds/:build/readme': NONE,
  '/api/v1/repositories/*repository/images/:reference': NONE,
  '/api/v1/repositories/*repository/images/:reference/console': NONE,
  '/api/v1/repositories/*repository/images/:reference/script': NONE,
  '/api/v1/repositories/*repository/images/:reference/readme': NONE,
  '/api/v1/repositories/*repository/images/:reference/compare/:other': NONE,
  '/api/v1/repositories/*repository/images/:reference/compare': ['previous', 'next', 'latest'].map(
    (which) => `with=${which}`,
  ),
  '/api/v1/repositories/*repository/images/:reference/kernel': NONE,
  '/api/v1/repositories/*repository/images/:reference/documents/:format': NONE,
  '/api/v1/repositories/*repository/images/:reference/dependencies': ['', 'package=lwt'],
  '/api/v1/repositories/*repository/images/:reference/sizes': NONE,
  '/api/v1/images': combined(
    'target=hvt',
    'abi=1',
    'device=net',
    'tagged=true',
    'repository=mine/**',
  ).concat([
    `n=20&target=${RARE.target}`,
    'n=20&builder=admin',
    'n=20&arch=x86_64',
    'n=20&device-count=1',
  ]),
  '/api/v1/kernels/:digest': combined('tagged=true', 'tag=v*', `repository=${REPOSITORY}`),
  '/api/v1/inputs/:inputId': [
    ...['', 'tagged=true', 'tag=v*', 'tagged=true&tag=none'],
    ...[`repository=${REPOSITORY}`, `repository=mine/**&tagged=true`],
  ],
  '/api/v1/packages/:ecosystem/:name': combined(
    'version=%3C9',
    'tagged=true',
    'tag=v*',
    `repository=${REPOSITORY}`,
  ),
  '/api/v1/sources': [
    ...combined('tagged=true', 'tag=v*', `repository=${REPOSITORY}`).map(
      (q) => `${q}&from=${SOURCE}`,
    ),
    `n=20&from=${SOURCE}%23v0.12.1`,
    `n=20&checksum=${CHECKSUM}`,
  ],
  '/api/v1/runs': [
    ...combined(`repository=${REPOSITORY}`, 'host=h1', 'running=1', 'package=bigstringaf'),
    `n=20&kernel=sha256:${'a'.repeat(64)}`,
  ],
  '/api/v1/audit': [
    ...combined('after=0&action=push', 'actor=somebody', SINCE),
    ...combined('action=push', 'actor=somebody', 'repository=mine/www', 'decision=allowed', SINCE),
    ...combined(`action=${RARE.action}`, 'actor=admin', 'repository=mine/www', SINCE),
    ...combined(`actor=${RARE.actor}`, `repository=${RARE.repository}`, 'decision=refused', SINCE),
  ],
  '/api/v1/events': [
    'n=20',
    ...combined('type=image.tag.updated', `repository=${REPOSITORY}`, 'tag=v1').map(
      (q) => `after=START&${q}`,
    ),
    ...combined('repository=mine/*', 'tag=v*').map((q) => `after=START&${q}`),
    `snapshot=1&repository=${REPOSITORY}&tag=v1`,
  ],
  '/api/v1/webhooks': ['n=20', 'n=20&last=w2'],
  '/api/v1/webhooks/:name': NONE,
  '/api/v1/webhooks/:name/deliveries': ['n=20', ...DELIVERY_STATES.map((s) => `n=20&state=${s}`)],
  '/api/v1/webhooks/:name/deliveries/:event': NONE,
  '/api/v1/credentials': ['n=20', 'n=20&last=c2'],
  '/api/v1/sessions': ['', 'actor=admin'],
  '/api/v1/hosts': [
    ...combined('label=site%3Da', `repository=${REPOSITORY}`, `kernel=sha256:${'a'.repeat(64)}`),
    ...['n=20&state=pending', 'n=20&state=revoked', 'n=20&state=revoked&label=site%3Da'],
  ],
  '/api/v1/hosts/:host': NONE,
  '/api/v1/policies': ['n=20', 'n=20&last=p2'],
  '/api/v1/policies/:name': NONE,
  '/v2/*repository/blobs/uploads/:upload': NONE,
  '/token': ['service=rookery&scope=repository:mine/www:pull'],
}

let registry: TestRegistry
let client: pg.Client
let samples: Samples
let start: string
const secrets: Partial<Record<Caller, string>> = {}
const COMPUTED = { timeout: 20_000, interval: 200 }

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
  const cursor = await registry.request('/api/v1/events?n=0')
  start = ((await cursor.json()) as { cursor: string }).cursor
  await post('/api/v1/webhooks', {
    name: 'deploy',
    url: 'https://receiver.example/hook',
    repositories: ['mine/**'],
    paused: true,
  })
  const manifest = await pushBuild(registry, REPOSITORY, 'v1', 'hello-key-2')
  const details = await registry.request(`/api/v1/repositories/${REPOSITORY}/images/v1`)
  const { kernel } = (await details.json()) as { kernel: { digest: string } }
  const event = await eventually(async () => {
    const answer = await registry.request('/api/v1/webhooks/deploy/deliveries')
    const [delivery] = ((await answer.json()) as { deliveries: { event: string }[] }).deliveries
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
    host: 'h1',
  }
  // The first request has it computed.
  const sizes = `/api/v1/repositories/${REPOSITORY}/images/v1/sizes`
  await vi.waitFor(async () => expect((await registry.request(sizes)).status).toBe(200), COMPUTED)
  secrets.member = await addCredential('member', ['mine/**'])
  secrets.guest = await addCredential('guest', ['guest/*-a*/**', 'guests/*'])
  await addRareRows(client, samples)
  recordStatements()
}, 60_000)
afterAll(async () => {
  vi.restoreAllMocks()
  await client.end()
  await registry.close()
})

async function post(path: string, body: object): Promise<Record<string, string>> {
  const headers = { 'content-type': 'application/json' }
  const init = { method: 'POST', headers, body: JSON.stringify(body) }
  const answer = await registry.request(path, init)
  expect([path, answer.status]).toEqual([path, 201])
  return (await answer.json()) as Record<string, string>
}

async function addCredential(name: string, repositories: string[]): Promise<string> {
  const actions = ['pull', 'admin']
  const made = await post('/api/v1/credentials', { name, repositories, actions })
  return `Basic ${Buffer.from(`${name}:${made.secret}`).toString('base64')}`
}

const PATHS = new Set(
  ROUTES.flatMap((route) =>
    'reads' in route && route.reads !== 'nothing' && route.access !== 'host' ? [route.path] : [],
  ),
)

/** The pages that each request of a path reads, by request. */
async function pagesOf(pattern: string): Promise<Map<string, number>> {
  const pages = new Map<string, number>()
  for (const query of QUERIES[pattern] ?? [])
    for (const who of BY_CALLER.includes(pattern) ? CALLERS : ADMINISTRATOR) {
      const path = answeredPath(pattern, samples).replace('/policies/missing', '/policies/p0')
      const url = `${path}?${query.replace('START', start)}`
      let status = 0
      const sent = await statementsOf(async () => {
        const answer = await ask(who, url)
        status = answer.status
        await answer.arrayBuffer()
      })
      expect([who, url, status]).toEqual([who, url, expect.toBeOneOf([200, 303, 401, 404])])
      let sum = 0
      for (const statement of sent) sum += await countPages(client, statement)
      pages.set(`${who} ${url}`, sum)
    }
  return pages
}

function ask(who: Caller, url: string): Promise<Response> {
  if (who === 'administrator') return registry.request(url)
  const authorization = secrets[who]
  return registry.anonymous(url, authorization === undefined ? {} : { headers: { authorization } })
}

async function pagesOfAll(): Promise<Map<string, number>> {
  const all: [string, number][] = []
  for (const path of PATHS) all.push(...(await pagesOf(path)))
  for (const [name, work] of Object.entries(BACKGROUND)) {
    const sent: Statement[] = []
    const query = async (text: string, values: readonly unknown[] = []) => {
      sent.push({ text, values })
      return { rows: [] }
    }
    await work({ query } as unknown as Transaction).catch(() => {})
    let sum = 0
    for (const statement of sent) sum += await countPages(client, statement)
    expect([name, sent.length]).not.toEqual([name, 0])
    all.push([name, sum])
  }
  return new Map(all)
}

describe('every route that reads, and every loop', () => {
  it('has queries here, with each of its filters', () => {
    expect([...PATHS].filter((path) => QUERIES[path] === undefined)).toEqual([])
  })

  it('reads as many pages when there are four times as many rows', async () => {
    await grow(client, samples, 0, ROWS)
    const before = await pagesOfAll()
    await grow(client, samples, ROWS, FACTOR * ROWS)
    const grown = async () =>
      [...(await pagesOfAll())].flatMap(([request, pages]) => {
        const small = before.get(request) ?? 0
        return pages <= pagesAllowed(request, small)
          ? []
          : [{ request, message: `${request}: ${small} pages, then ${pages}` }]
      })
    let first = await grown()
    // A request also reads what the registry's memory let go, and rows that a transaction kept from being vacuumed: what has
    // grown, has grown twice.
    if (first.length > 0) {
      await client.query('vacuum (analyze)')
      const again = new Set((await grown()).map(({ request }) => request))
      first = first.filter(({ request }) => again.has(request))
    }
    // One text, which a summary shows whole.
    expect(first.map(({ message }) => message).join('\n')).toBe('')
  }, 600_000)
})
