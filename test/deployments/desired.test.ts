import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { startServer } from '../../src/server/server.ts'
import { pushBuild } from '../images/image-fixtures.ts'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { expectError, newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  ask,
  desiredUnits,
  grant,
  insertDeployment,
  KERNEL,
  OTHER,
  OTHER_KERNEL,
  report,
} from './reporting.ts'
import { rowsOf } from './rows.ts'

let registry: TestRegistry
let host: TestHost
let repository: string
let first: string
let second: string

beforeAll(async () => {
  registry = await startRegistry()
  repository = newRepository()
  second = await pushBuild(registry, repository, 'live', OTHER)
  first = await pushBuild(registry, repository, 'live')
  host = await enrolHost(registry, { name: 'web-1' })
})
afterAll(() => registry.close())

/** A second server with the same settings. */
function startReplica({ settings }: TestRegistry) {
  return startServer(parseConfig(settings), createLog('silent'), (error) => {
    throw error
  })
}

/** Returns a request that waits at a server for something else than the host knows now. */
async function waitingAt(url: string): Promise<() => Promise<Response>> {
  const path = new URL(`/api/v1/hosts/${host.name}/desired?wait=30`, url)
  const authorization = `Bearer ${await host.token()}`
  // The answer has the URL of the server, so its entity tag is its own.
  const first = await fetch(path, { headers: { authorization } })
  const headers = { authorization, 'if-none-match': first.headers.get('etag') ?? '' }
  return () => fetch(path, { headers })
}

/** The entity tag of what a host knows. */
async function tagOfKnown(one = host): Promise<Record<string, string>> {
  return { 'if-none-match': (await ask(one)).headers.get('etag') ?? '' }
}

async function timed<T>(work: () => Promise<T>): Promise<{ result: T; seconds: number }> {
  const started = performance.now()
  const result = await work()
  return { result, seconds: (performance.now() - started) / 1000 }
}

describe('a host', () => {
  it('without units has nothing to run', async () => {
    const answer = await ask(await enrolHost(registry))
    expect(answer.status).toBe(200)
    expect(await answer.json()).toMatchObject({ units: [] })
  })

  it('that begins to follow a tag gets its digest, and the URL of the kernel', async () => {
    const { desired } = await report(host, { follows: { repository, tag: 'live' } })
    expect(desired).toMatchObject({
      ...{ name: 'www', repository, tag: 'live', digest: first, deployment: null },
      kernel: { digest: KERNEL, url: `${registry.url}/v2/${repository}/blobs/${KERNEL}` },
      seen: { kernel: null, state: 'absent' },
    })
    expect(await desiredUnits(host)).toEqual([desired])
    const url = desired.kernel?.url ?? ''
    const kernel = await host.request(new URL(url).pathname)
    expect(kernel.status).toBe(200)
    expect((await kernel.arrayBuffer()).byteLength).toBe(desired.kernel?.size)
  })

  it('without a parser for JSON gets one line for each unit, in which no field is empty', async () => {
    const answer = await ask(host, '', { accept: 'text/plain' })
    expect(answer.headers.get('content-type')).toContain('text/plain')
    const url = `${registry.url}/v2/${repository}/blobs/${KERNEL}`
    const fields = ['www', first, KERNEL, url, '-', '-', '-', 'absent']
    expect(await answer.text()).toBe(`${fields.join('\t')}\n`)
  })

  it('that knows the answer gets 304, at once or after the time that it waits', async () => {
    const headers = await tagOfKnown()
    const { result: quick, seconds } = await timed(() => ask(host, '', headers))
    expect(quick.status).toBe(304)
    expect(quick.headers.get('etag')).toBe(headers['if-none-match'])
    expect(seconds).toBeLessThan(0.9)
    const { result: late, seconds: waited } = await timed(() => ask(host, '?wait=1', headers))
    expect(late.status).toBe(304)
    expect(waited).toBeGreaterThanOrEqual(0.95)
    const text = await ask(host, '?wait=5', { ...headers, accept: 'text/plain' })
    expect(text.status).toBe(200)
  })

  it('that waits is answered within a second of a grant', async () => {
    const headers = await tagOfKnown()
    const waiting = timed(() => ask(host, '?wait=30', headers))
    const deployment = await insertDeployment(registry, repository, second)
    const { seconds: before } = await timed(() => grant(registry, host, deployment, OTHER_KERNEL))
    const { result, seconds } = await waiting
    expect(result.status).toBe(200)
    expect(seconds).toBeLessThan(before + 1.5)
    expect(((await result.json()) as { units: unknown[] }).units).toMatchObject([
      { digest: second, deployment, watchSeconds: 30, kernel: { digest: OTHER_KERNEL } },
    ])
  })

  it('is answered within seconds of a grant whose notification was lost', async () => {
    const headers = await tagOfKnown()
    const waiting = timed(() => ask(host, '?wait=30', headers))
    const deployment = await insertDeployment(registry, repository, first)
    await grant(registry, host, deployment, KERNEL, 'nobody')
    const { result, seconds } = await waiting
    expect(result.status).toBe(200)
    expect(seconds).toBeLessThan(8)
  }, 15_000)

  it('that asks again ends its earlier request', async () => {
    const headers = await tagOfKnown()
    const earlier = timed(() => ask(host, '?wait=30', headers))
    await new Promise((resolve) => setTimeout(resolve, 300))
    const later = ask(host, '?wait=1', headers)
    const { result, seconds } = await earlier
    expect(result.status).toBe(304)
    expect(seconds).toBeLessThan(1.2)
    expect((await later).status).toBe(304)
  })

  it('that waits at another replica is answered within a second, too', async () => {
    const replica = await startReplica(registry)
    const waiting = timed(await waitingAt(replica.url))
    await new Promise((resolve) => setTimeout(resolve, 300))
    const deployment = await insertDeployment(registry, repository, second)
    const { seconds: before } = await timed(() => grant(registry, host, deployment, OTHER_KERNEL))
    const { result, seconds } = await waiting
    expect(result.status).toBe(200)
    expect(seconds).toBeLessThan(before + 1.5)
    await replica.close()
  })

  it('that waits when the server stops asks another one', async () => {
    const replica = await startReplica(registry)
    const waiting = timed(await waitingAt(replica.url))
    await new Promise((resolve) => setTimeout(resolve, 300))
    await replica.close()
    const { result, seconds } = await waiting
    expect(result.status).toBe(304)
    expect(seconds).toBeLessThan(5)
  })

  it('with a stream gets what it should run now, and each change', async () => {
    const stopping = new AbortController()
    const answer = await host.request(`/api/v1/hosts/${host.name}/desired`, {
      headers: { accept: 'text/event-stream' },
      signal: stopping.signal,
    })
    expect(answer.headers.get('content-type')).toContain('text/event-stream')
    let text = ''
    const digests = () =>
      [...text.matchAll(/^event: desired\ndata: (.*)$/gm)].map(
        ([, data]) => JSON.parse(data ?? '').units[0].digest,
      )
    const reading = (async () => {
      for await (const chunk of answer.body ?? []) text += Buffer.from(chunk).toString()
    })().catch(() => {})
    await expect.poll(digests).toEqual([second])
    const deployment = await insertDeployment(registry, repository, first)
    await grant(registry, host, deployment, KERNEL)
    await expect.poll(digests).toEqual([second, first])
    // The next request of the host takes its place.
    await ask(host, '?wait=1', await tagOfKnown())
    await reading
    stopping.abort()
  })

  it('that waits is answered when its access changes', async () => {
    const headers = await tagOfKnown()
    const waiting = timed(() => ask(host, '?wait=30', headers))
    await new Promise((resolve) => setTimeout(resolve, 300))
    await rowsOf(registry, `select pg_notify('rookery_deployments', 'host:${host.id}')`)
    expect((await waiting).seconds).toBeLessThan(2)
  })
})

describe('a unit', () => {
  it.each([
    ['a tag that does not exist', { tag: 'none' }, 'no-tag', 'no tag none'],
    ['an image without a kernel for its target', { target: 'xen' }, 'target', 'xen'],
  ])('of %s keeps what it runs, and gets the reason', async (_, follows, reason, word) => {
    const name = newRepository()
    await pushBuild(registry, name, 'live')
    const other = await enrolHost(registry)
    const { desired } = await report(other, {
      follows: { repository: name, tag: 'live', ...follows },
    })
    expect(desired).toMatchObject({ kernel: null, reason })
    expect(desired.message).toContain(word)
    const line = await (await ask(other, '', { accept: 'text/plain' })).text()
    expect(line.split('\t')[2]).toBe('-')
  })

  it('without a tender for the kernel gets the reason, before anything is fetched', async () => {
    const name = newRepository()
    await pushBuild(registry, name, 'live')
    const other = await enrolHost(registry)
    const follows = { repository: name, tag: 'live' }
    const tender = { target: 'hvt', architecture: 'x86_64' }
    const { desired } = await report(other, { follows, tenders: [{ ...tender, abi: 1 }] })
    expect(desired).toMatchObject({ kernel: null, reason: 'abi' })
    const after = await report(other, { follows, tenders: [{ ...tender, abi: 2 }] })
    expect(after.desired.kernel?.digest).toBe(KERNEL)
  })

  it('that waits for its turn gets the name of the host before it', async () => {
    const name = newRepository()
    const digest = await pushBuild(registry, name, 'live')
    const [canary, other] = [await enrolHost(registry), await enrolHost(registry)]
    const deployment = await insertDeployment(registry, name, digest)
    await report(canary, { follows: { repository: name, tag: 'live' } })
    await grant(registry, canary, deployment, KERNEL)
    const { desired } = await report(other, { follows: { repository: name, tag: 'live' } })
    expect(desired).toMatchObject({
      digest: null,
      reason: 'waits',
      hold: `waits for ${canary.name}`,
    })
  })

  it('keeps what it runs when its tag is deleted', async () => {
    const name = newRepository()
    await pushBuild(registry, name, 'live')
    const other = await enrolHost(registry)
    await report(other, { follows: { repository: name, tag: 'live' } })
    await registry.request(`/v2/${name}/manifests/live`, { method: 'DELETE' })
    expect(await desiredUnits(other)).toMatchObject([{ digest: null, reason: 'no-tag' }])
  })
})

describe('another caller', () => {
  it('cannot speak for a host', async () => {
    const other = await enrolHost(registry)
    const path = `/api/v1/hosts/${host.name}/desired`
    await expectError(await other.request(path), 403, 'DENIED')
    await expectError(await registry.request(path), 403, 'DENIED')
    await expectError(await registry.anonymous(path), 401, 'UNAUTHORIZED')
  })

  it.each(['-1', '56', 'x', '1.5'])('is refused a wait of %s', async (wait) => {
    await expectError(await ask(host, `?wait=${wait}`), 400, 'QUERY_INVALID')
  })
})
