import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { expectError, newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  addDeployment,
  addTarget,
  changeTarget,
  DIGEST,
  endDeployment,
  ROLLOUT,
} from './deployment-rows.ts'

type Deployment = Record<string, unknown> & {
  readonly id: string
  readonly counts: Record<string, number>
  readonly targets?: readonly Record<string, unknown>[]
}

let registry: TestRegistry
const secrets = new Map<string, string>()

beforeAll(async () => {
  registry = await startRegistry()
  await pushImage(registry, 'public/www', 'live')
  await pushImage(registry, 'private/www', 'live')
  const answer = await registry.request('/api/v1/repositories/private/www/settings', {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ visibility: 'private' }),
  })
  expect(answer.status).toBe(200)
  const all = ['public/**', 'private/**']
  await login('puller', { actions: ['pull'], repositories: all })
  await login('pusher', { actions: ['push'], repositories: all })
  await login('owner', { actions: ['admin'], repositories: all })
  await login('stranger', { actions: ['pull', 'push'], repositories: ['other/**'] })
  secrets.set('administrator', basic('admin', registry.password))
})
afterAll(() => registry.close())

async function login(who: string, grant: { actions: string[]; repositories: string[] }) {
  const { name, secret } = await makeCredential(registry, grant)
  secrets.set(who, basic(name, secret))
}

function get(who: string, path: string, headers: Record<string, string> = {}): Promise<Response> {
  const authorization = secrets.get(who)
  const login = authorization === undefined ? {} : { authorization }
  return registry.anonymous(path, { headers: { ...login, ...headers } })
}

const show = (id: string, query = '') => `/api/v1/deployments/${id}${query}`
const read = async (answer: Response) => (await answer.json()) as Deployment

let hosts = 0
/** Adds a deployment with one target for each state, on hosts whose names it returns. */
async function deploy(repository: string, ...states: string[]) {
  const id = await addDeployment(registry, repository)
  const names: string[] = []
  for (const state of states) {
    hosts += 1
    names.push(`web-${hosts}`)
    await addTarget(registry, id, `web-${hosts}`, state)
  }
  return { id, names }
}

describe('a deployment', () => {
  it('shows its targets and their counts to those who push', async () => {
    const states = ['waiting', 'checking', 'healthy', 'overdue', 'refused', 'offline', 'skipped']
    const { id, names } = await deploy('public/www', ...states)
    const answer = await get('pusher', show(id))
    expect(answer.status).toBe(200)
    const { targets = [], ...deployment } = await read(answer)
    expect(deployment).toEqual({
      ...{ id, repository: 'public/www', tag: 'live', number: expect.any(Number) },
      ...{ digest: DIGEST, previous: null, kind: 'push', state: 'rolling', reason: null },
      ...{ rollout: ROLLOUT, actor: 'admin', createdAt: expect.any(String), finishedAt: null },
      counts: {
        ...{ waiting: 1, inFlight: 1, healthy: 1, settled: 0, failed: 1, refused: 1 },
        ...{ offline: 1, skipped: 1, of: 7 },
      },
    })
    const [overdue, refused] = [names[3], names[4]]
    expect(targets.map(({ host }) => host).slice(0, 3)).toEqual([overdue, refused, names[0]])
    expect(targets[0]).toEqual({
      ...{ host: overdue, unit: 'www', state: 'overdue', kernel: null, since: expect.any(String) },
      ...{ grantedAt: null, healthyAt: null, settledAt: null, reason: null, message: null },
    })
  })

  it('shows why a target failed: the exit code in words, and the last lines', async () => {
    const { id, names } = await deploy('public/www', 'starting')
    const [host = ''] = names
    await changeTarget(registry, id, host, 'rolled-back', { exitCode: 2, log: 'Fatal error' })
    const { targets = [] } = await read(await get('pusher', show(id)))
    expect(targets[0]).toMatchObject({
      ...{ host, state: 'rolled-back', log: 'Fatal error' },
      exit: { code: 2, meaning: 'an exception of OCaml' },
    })
  })

  it.each([
    ['public/www', 'puller', true, false],
    ['public/www', 'pusher', true, true],
    ['public/www', 'owner', true, true],
    ['public/www', 'administrator', true, true],
    ['public/www', 'stranger', false, false],
    ['private/www', 'puller', true, false],
    ['private/www', 'pusher', true, true],
    ['private/www', 'administrator', true, true],
  ])('in %s is shown to a %s', async (repository, who, hasActor, hasTargets) => {
    const { id } = await deploy(repository, 'healthy')
    const answer = await get(who, show(id))
    expect(answer.status).toBe(200)
    const found = await read(answer)
    expect(found.counts).toMatchObject({ healthy: 1, of: 1 })
    expect(found.actor).toBe(hasActor ? 'admin' : null)
    expect(found.targets?.length).toBe(hasTargets ? 1 : undefined)
  })

  it('is hidden from anonymous callers, and looks like a missing one to strangers', async () => {
    const { id } = await deploy('private/www', 'healthy')
    const missing = randomUUID()
    await expectError(await get('anonymous', show(id)), 401, 'UNAUTHORIZED')
    await expectError(await get('anonymous', show(missing)), 401, 'UNAUTHORIZED')
    const [hidden, none] = [await get('stranger', show(id)), await get('stranger', show(missing))]
    expect([hidden.status, none.status]).toEqual([404, 404])
    expect((await hidden.text()).replaceAll(id, missing)).toBe(await none.text())
    await expectError(await get('pusher', show('first')), 400, 'REQUEST_INVALID')
  })

  it('is one line for scripts', async () => {
    const { id } = await deploy('public/www', 'healthy', 'failed', 'refused', 'offline')
    const answer = await get('puller', show(id), { accept: 'text/plain' })
    expect(answer.headers.get('content-type')).toBe('text/plain; charset=utf-8')
    expect(await answer.text()).toBe('rolling healthy=1 failed=2 offline=1 of=4\n')
  })
})

describe('the list of all deployments', () => {
  /** All deployments that a caller sees, by following the links. */
  async function listed(who: string, query = ''): Promise<Deployment[]> {
    const all: Deployment[] = []
    let path: string | undefined = `/api/v1/deployments?n=3${query}`
    for (let pages = 0; path !== undefined; pages += 1) {
      expect(pages).toBeLessThan(100)
      const answer = await get(who, path)
      expect(answer.status).toBe(200)
      const { deployments } = (await answer.json()) as { deployments: Deployment[] }
      expect(deployments.length).toBeLessThanOrEqual(3)
      all.push(...deployments)
      path = /<([^>]+)>/.exec(answer.headers.get('link') ?? '')?.[1]
    }
    return all
  }

  it('has those of every repository that the caller may pull, newest first, each once', async () => {
    const [open, secret, ended] = [
      await deploy('public/www', 'healthy'),
      await deploy('private/www', 'healthy'),
      await deploy('public/www', 'failed'),
    ]
    await endDeployment(registry, ended.id, 'halted')
    const ids = (await listed('puller')).map(({ id }) => id)
    expect(ids.slice(0, 3)).toEqual([ended.id, secret.id, open.id])
    expect(new Set(ids).size).toBe(ids.length)
    const strange = await listed('stranger')
    expect(strange.slice(0, 2).map(({ id }) => id)).toEqual([ended.id, open.id])
    expect(strange.filter(({ repository }) => repository !== 'public/www')).toEqual([])
    expect(strange.filter(({ actor, reason }) => actor !== null || reason !== null)).toEqual([])
    expect((await listed('pusher', '&state=halted')).map(({ id }) => id)).toEqual([ended.id])
    expect((await get('anonymous', '/api/v1/deployments')).status).toBe(401)
  })
})

describe('a request that waits', () => {
  it('answers as soon as the deployment changes', async () => {
    const { id, names } = await deploy('public/www', 'starting')
    const first = await get('pusher', show(id))
    const cached = { 'if-none-match': first.headers.get('etag') ?? '' }
    expect((await get('pusher', show(id), cached)).status).toBe(304)
    const waiting = get('pusher', show(id, '?wait=50'), cached)
    await changeTarget(registry, id, names[0] ?? '', 'healthy')
    const started = performance.now()
    let answer = await waiting
    expect(answer.status).toBe(200)
    let { counts } = await read(answer)
    // The registry plans the deployment meanwhile, which is a change, too.
    while (counts.healthy === 0 && performance.now() - started < 2_000) {
      const unchanged = { 'if-none-match': answer.headers.get('etag') ?? '' }
      answer = await get('pusher', show(id, '?wait=2'), unchanged)
      if (answer.status === 200) counts = (await read(answer)).counts
    }
    expect(performance.now() - started).toBeLessThan(2_000)
    expect(counts).toMatchObject({ healthy: 1, inFlight: 0 })
  })

  it('ends with 304 when nothing changes, and answers at once to a client that knows nothing', async () => {
    const { id } = await deploy('public/www', 'starting')
    const first = await get('puller', show(id, '?wait=50'))
    expect(first.status).toBe(200)
    const cached = { 'if-none-match': first.headers.get('etag') ?? '' }
    const answer = await get('puller', show(id, '?wait=1'), cached)
    expect([answer.status, await answer.text()]).toEqual([304, ''])
  })

  it.each(['56', '-1', '1.5', 'long'])('refuses to wait for %s seconds', async (wait) => {
    const { id } = await deploy('public/www')
    await expectError(await get('puller', show(id, `?wait=${wait}`)), 400, 'QUERY_INVALID')
  })
})

describe('a stream', () => {
  const STREAM = { accept: 'text/event-stream' }

  /** Reads a whole stream, as pairs of event and data. */
  async function blocksOf(answer: Response): Promise<[string, Record<string, unknown>][]> {
    expect([answer.status, answer.headers.get('content-type')]).toEqual([
      200,
      'text/event-stream; charset=utf-8',
    ])
    const text = await answer.text()
    return [...text.matchAll(/event: (\w+)\ndata: (.*)\n/g)].map(([, event = '', data = '']) => [
      event,
      JSON.parse(data),
    ])
  }

  it('sends the deployment at each change, and what kernels print, until it ends', async () => {
    const { id, names } = await deploy('public/www', 'starting')
    const host = names[0] ?? ''
    const answer = await get('pusher', show(id), STREAM)
    const blocks = blocksOf(answer)
    await changeTarget(registry, id, host, 'failed', { exitCode: 1, log: 'Solo5: panic' })
    await endDeployment(registry, id, 'halted')
    const found = await blocks
    expect(found[0]).toMatchObject(['deployment', { id, state: 'rolling' }])
    expect(found.at(-1)).toMatchObject(['deployment', { id, state: 'halted' }])
    expect(found).toContainEqual([
      'log',
      { host, unit: 'www', at: expect.any(String), text: 'Solo5: panic' },
    ])
  })

  it('shows no hosts and no logs to those who only pull', async () => {
    const { id, names } = await deploy('public/www', 'starting')
    await changeTarget(registry, id, names[0] ?? '', 'failed', { log: 'a secret' })
    await endDeployment(registry, id, 'halted')
    const found = await blocksOf(await get('puller', show(id), STREAM))
    expect(found.map(([event]) => event)).toEqual(['deployment'])
    expect(JSON.stringify(found)).not.toContain('a secret')
    expect(JSON.stringify(found)).not.toContain(names[0])
  })

  it('answers 204 to a client that has seen the end', async () => {
    const { id } = await deploy('public/www', 'healthy')
    await endDeployment(registry, id, 'succeeded')
    const text = await (await get('puller', show(id), STREAM)).text()
    const last = /^id: (.+)$/m.exec(text)?.[1] ?? ''
    const again = await get('puller', show(id), { ...STREAM, 'last-event-id': last })
    expect(again.status).toBe(204)
  })
})

describe('the deployments of a repository', () => {
  const PATH = (repository: string) => `/api/v1/repositories/${repository}/deployments`
  const list = async (answer: Response) =>
    ((await answer.json()) as { deployments: Deployment[] }).deployments.map(({ id }) => id)

  it('are listed newest first, by tag and digest, in pages', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'live')
    const other = `sha256:${'e'.repeat(64)}`
    const first = await addDeployment(registry, repository)
    const second = await addDeployment(registry, repository, { digest: other })
    const third = await addDeployment(registry, repository, { tag: 'test' })
    const path = PATH(repository)
    expect(await list(await get('stranger', path))).toEqual([third, second, first])
    expect(await list(await get('stranger', `${path}?tag=live`))).toEqual([second, first])
    expect(await list(await get('stranger', `${path}?digest=${other}`))).toEqual([second])
    expect(await list(await get('stranger', `${path}?tag=test&digest=${other}`))).toEqual([])
    const page = await get('stranger', `${path}?tag=live&n=1`)
    expect(await list(page)).toEqual([second])
    const next = /^<(.+)>; rel="next"$/.exec(page.headers.get('link') ?? '')?.[1] ?? ''
    const last = await get('stranger', next)
    expect([await list(last), last.headers.get('link')]).toEqual([[first], null])
  })

  it('need a credential, and are hidden with their repository', async () => {
    await expectError(await get('anonymous', PATH('public/www')), 401, 'UNAUTHORIZED')
    await expectError(await get('anonymous', PATH('private/www')), 401, 'UNAUTHORIZED')
    await expectError(await get('stranger', PATH('private/www')), 404, 'NAME_UNKNOWN')
    await expectError(await get('stranger', PATH('private/none')), 404, 'NAME_UNKNOWN')
    const { id } = await deploy('private/www', 'healthy')
    expect(await list(await get('puller', `${PATH('private/www')}?n=1`))).toEqual([id])
    expect(await (await get('pusher', PATH('private/www'))).text()).not.toContain('targets')
  })

  it('are asked for with valid parameters', async () => {
    for (const query of ['digest=sha256:1', 'tag=.', 'last=1', 'n=x', 'state=failed']) {
      expect([query, (await get('puller', `${PATH('public/www')}?${query}`)).status]).toEqual([
        query,
        400,
      ])
    }
  })
})
