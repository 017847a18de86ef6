import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { validateEvent } from '../events/event-schema.ts'
import { formOf, postImage, pushBuild } from '../images/image-fixtures.ts'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { expectError, newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { KERNEL, report } from './reporting.ts'

type Deployment = {
  readonly id: string
  readonly number: number
  readonly kind: string
  readonly state: string
  readonly reason: string | null
  readonly targets: readonly { readonly host: string; readonly state: string }[]
}

let registry: TestRegistry
/** A cursor before all events. */
let start: string

beforeAll(async () => {
  registry = await startRegistry()
  const page = await registry.request('/api/v1/events?n=0')
  start = ((await page.json()) as { cursor: string }).cursor
})
afterAll(() => registry.close())

const TENDERS = [{ target: 'hvt', abi: 2, architecture: 'x86_64' }]

/** A host whose unit `www` follows `live` of a repository. */
async function follow(repository: string): Promise<TestHost> {
  const host = await enrolHost(registry, { repositories: [repository] })
  await report(host, { follows: { repository, tag: 'live' }, tenders: TENDERS, kernel: null })
  return host
}

/** The ids of the deployments that a push links to. */
const monitored = (answer: Response) =>
  [...(answer.headers.get('link') ?? '').matchAll(/<([^>]+)>; rel="monitor"/g)].map(
    ([, path = '']) => path.split('/').at(-1) ?? '',
  )

async function show(id: string): Promise<Deployment> {
  const answer = await registry.request(`/api/v1/deployments/${id}`)
  expect(answer.status).toBe(200)
  return (await answer.json()) as Deployment
}

/** Asserts that the feed has events of these types about the repository, and that all of its events are valid. */
async function expectEvents(repository: string, ...types: string[]): Promise<void> {
  const query = types.map((type) => `type=${type}`).join('&')
  const read = async () => {
    const page = await registry.request(
      `/api/v1/events?after=${start}&n=1000&repository=${repository}&${query}`,
    )
    const { events } = (await page.json()) as { events: { type: string }[] }
    for (const event of events) validateEvent(JSON.stringify(event))
    return [...new Set(events.map(({ type }) => type))]
  }
  await expect.poll(read).toEqual(expect.arrayContaining(types))
}

const act = (id: string, action: string, authorization?: string) =>
  registry.anonymous(`/api/v1/deployments/${id}/${action}`, {
    method: 'POST',
    headers: { authorization: authorization ?? basic('admin', registry.password) },
  })

describe('a push of a tag that a unit follows', () => {
  it('links to its deployment, which can be waited for until its hosts are healthy', async () => {
    const repository = newRepository()
    const host = await follow(repository)
    const pushed = await postImage(
      registry,
      repository,
      '?tag=live&tag=other',
      formOf('hello-key-1'),
    )
    const { deployments } = (await pushed.json()) as { deployments: Deployment[] }
    const ids = monitored(pushed)
    expect(deployments).toEqual([{ id: ids[0], tag: 'live', number: 1 }])
    const id = ids[0] ?? ''
    await expect.poll(async () => (await show(id)).targets[0]?.state).toBe('granted')
    const first = await registry.request(`/api/v1/deployments/${id}`)
    const waiting = registry.request(`/api/v1/deployments/${id}?wait=30`, {
      headers: { 'if-none-match': first.headers.get('etag') ?? '' },
    })
    await report(host, {
      ...{ follows: { repository, tag: 'live' }, tenders: TENDERS },
      ...{ kernel: KERNEL, state: 'healthy', deployment: id },
    })
    const changed = (await (await waiting).json()) as Deployment
    expect(changed.targets).toMatchObject([{ host: host.name, state: 'healthy' }])
    await expectEvents(repository, 'deployment.created', 'deployment.target.changed')
  })

  it('by any client has the link, for each followed tag, and no other push has it', async () => {
    const repository = newRepository()
    await follow(repository)
    const image = await pushImage(registry, repository)
    const put = (query: string, reference: string) =>
      registry.request(`/v2/${repository}/manifests/${reference}${query}`, {
        method: 'PUT',
        headers: { 'content-type': image.mediaType },
        body: image.body,
      })
    expect(monitored(await put('', 'other'))).toEqual([])
    const [id = ''] = monitored(await put('?tag=third', 'live'))
    expect(await show(id)).toMatchObject({ kind: 'push', number: 1 })
    expect(monitored(await put('', 'live'))).toEqual([])
  })

  it('by an upload URL, and a rollback, have the link, too', async () => {
    const repository = newRepository()
    await follow(repository)
    await pushBuild(registry, repository, 'live')
    const tag = `/api/v1/repositories/${repository}/tags/live`
    const made = await registry.request(`${tag}/upload-urls`, { method: 'POST' })
    const { url } = (await made.json()) as { url: string }
    const uploaded = await registry.anonymous(url, { method: 'PUT', body: 'a file' })
    expect(uploaded.status).toBe(201)
    expect(await show(monitored(uploaded)[0] ?? '')).toMatchObject({ number: 2 })
    const rolled = await registry.request(`${tag}/rollback`, { method: 'POST' })
    const { deployments } = (await rolled.json()) as { deployments: Deployment[] }
    expect(monitored(rolled)).toEqual(deployments.map(({ id }) => id))
    expect(await show(monitored(rolled)[0] ?? '')).toMatchObject({ kind: 'rollback', number: 3 })
  })
})

describe('those who may push the tag', () => {
  it('pause, resume and cancel its deployment', async () => {
    const repository = newRepository()
    await follow(repository)
    const [id = ''] = monitored(
      await postImage(registry, repository, '?tag=live', formOf('hello-key-1')),
    )
    const paused = await act(id, 'pause')
    expect([paused.status, await paused.json()]).toMatchObject([
      200,
      { id, state: 'paused', reason: 'admin paused it' },
    ])
    expect(await (await act(id, 'resume')).json()).toMatchObject({ id, state: 'rolling' })
    expect(await (await act(id, 'cancel')).json()).toMatchObject({ id, state: 'cancelled' })
    await expectError(await act(id, 'pause'), 409, 'CONFLICT')
  })

  it('retry it on the units that failed', async () => {
    const repository = newRepository()
    const host = await follow(repository)
    const [id = ''] = monitored(
      await postImage(registry, repository, '?tag=live', formOf('hello-key-1')),
    )
    await expect.poll(async () => (await show(id)).targets[0]?.state).toBe('granted')
    await report(host, {
      ...{ follows: { repository, tag: 'live' }, tenders: TENDERS, kernel: null },
      ...{ state: 'failed', deployment: id, exit: { code: 1, meaning: 'Solo5' } },
    })
    await expect.poll(async () => (await show(id)).state).toBe('failed')
    const retried = await act(id, `retry?host=${host.name}`)
    expect(retried.status).toBe(201)
    const made = (await retried.json()) as Deployment
    expect(retried.headers.get('location')).toBe(`/api/v1/deployments/${made.id}`)
    expect(made).toMatchObject({ kind: 'retry', number: 2, targets: [{ host: host.name }] })
  })

  it('need the right to that tag; for others it is forbidden, or does not exist', async () => {
    const repository = newRepository()
    await follow(repository)
    const [id = ''] = monitored(
      await postImage(registry, repository, '?tag=live', formOf('hello-key-1')),
    )
    const login = async (actions: string[], tags?: string[]) => {
      const grant = { repositories: [repository], actions, ...(tags && { tags }) }
      const { name, secret } = await makeCredential(registry, grant)
      return basic(name, secret)
    }
    await expectError(await act(id, 'cancel', await login(['pull'])), 403, 'DENIED')
    await expectError(await act(id, 'cancel', await login(['push'], ['v*'])), 403, 'DENIED')
    await expectError(await act(randomUUID(), 'cancel', await login(['push'])), 404, 'NOT_FOUND')
    expect((await act(id, 'cancel', await login(['push'], ['live']))).status).toBe(200)
    const anonymous = await registry.anonymous(`/api/v1/deployments/${id}/cancel`, {
      method: 'POST',
    })
    await expectError(anonymous, 401, 'UNAUTHORIZED')
  })
})
