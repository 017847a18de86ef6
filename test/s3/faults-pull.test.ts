import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { newRepository, pushBlob, send } from '../support/push.ts'
import type { Fault, Times } from './fault-proxy.ts'
import {
  beginPush,
  expectPulled,
  expectUnavailable,
  type Faulty,
  finishPush,
  look,
  pushAgain,
  REFUSED_SECONDS_MAX,
  startFaulty,
  TIMEOUT_SECONDS,
  within,
} from './faulty-store.ts'

type Blob = { path: string; bytes: Buffer }

const SIZES = { small: 64 * 1024, large: 20 * 1024 * 1024 }

let faulty: Faulty
const blobs = {} as Record<keyof typeof SIZES, Blob>

beforeAll(async () => {
  faulty = await startFaulty()
  for (const [name, size] of Object.entries(SIZES)) {
    const repository = newRepository()
    const { digest, bytes } = await pushBlob(faulty.registry, repository, randomBytes(size))
    blobs[name as keyof typeof SIZES] = { path: `/v2/${repository}/blobs/${digest}`, bytes }
  }
})

beforeEach(() => faulty.proxy.clear())

afterAll(async () => {
  // None of these faults is a loss.
  const { rows } = await faulty.sweeper.client.query(
    'select id from blobs where lost_at is not null',
  )
  await faulty.close()
  expect(rows).toEqual([])
})

/** Returns the bytes of a complete response; undefined when the connection broke before its end. */
async function pulled(answer: Response): Promise<Buffer | undefined> {
  return answer.arrayBuffer().then(
    (bytes) => Buffer.from(bytes),
    () => undefined,
  )
}

describe('a pull returns every byte although the store fails temporarily:', () => {
  it.each<readonly [Fault, Times, keyof typeof SIZES]>([
    ['cut the answer', { first: 1 }, 'small'],
    ['cut the answer', { first: 3 }, 'large'],
    ['cut behind the head', { first: 2 }, 'large'],
    ['cut', { first: 2 }, 'small'],
    ['500', { first: 2 }, 'large'],
    ['slow down', { first: 1 }, 'small'],
    ['stall the answer', { first: 1 }, 'large'],
    ['hang', { first: 1 }, 'small'],
  ])('%s, %j: %s', async (fault, times, size) => {
    const { registry, proxy } = faulty
    const { path, bytes } = blobs[size]
    const injected = proxy.inject(fault, 'GetObject', times)
    const answer = await registry.request(path)
    expect(answer.status).toBe(200)
    expect((await pulled(answer))?.equals(bytes)).toBe(true)
    expect(injected.met).toBeGreaterThan(0)
  })

  it('cut in the middle, and a range of it', async () => {
    const { registry, proxy } = faulty
    const { path, bytes } = blobs.large
    proxy.inject('cut the answer', 'GetObject', { first: 2 })
    const answer = await registry.request(path, { headers: { range: 'bytes=1000000-9999999' } })
    expect(answer.status).toBe(206)
    expect((await pulled(answer))?.equals(bytes.subarray(1_000_000, 10_000_000))).toBe(true)
  })
})

describe('a pull is refused with 503 while the store fails:', () => {
  it.each<readonly [Fault, keyof typeof SIZES]>([
    ['500', 'small'],
    ['forbidden', 'small'],
    ['cut', 'large'],
    ['cut behind the head', 'small'],
  ])('%s: %s', async (fault, size) => {
    const { registry, proxy } = faulty
    const { path, bytes } = blobs[size]
    const injected = proxy.inject(fault, 'GetObject')
    await expectUnavailable(await within(REFUSED_SECONDS_MAX, () => registry.request(path)))
    expect(injected.met).toBeGreaterThan(0)
    // HEAD reads no bytes: Postgres knows which blobs exist.
    expect((await registry.request(path, { method: 'HEAD' })).status).toBe(200)
    proxy.clear()
    expect((await pulled(await registry.request(path)))?.equals(bytes)).toBe(true)
  })
})

describe('a pull that the store ends early for good ends early, and never seems complete:', () => {
  it.each<Fault>(['hang', '500', 'cut', 'cut behind the head', 'forbidden'])(
    'half of it, and then %s',
    async (fault) => {
      const { registry, proxy } = faulty
      const { path, bytes } = blobs.large
      proxy.inject('cut the answer', 'GetObject', { first: 1 })
      const injected = proxy.inject(fault, 'GetObject')
      await within(REFUSED_SECONDS_MAX, async () => {
        const answer = await registry.request(path)
        expect(answer.status).toBe(200)
        expect(answer.headers.get('content-length')).toBe(String(bytes.length))
        expect(await pulled(answer)).toBeUndefined()
      })
      expect(injected.met).toBeGreaterThan(0)
    },
  )

  it('every response is cut in its middle', async () => {
    const { registry, proxy } = faulty
    const { path, bytes } = blobs.large
    proxy.inject('cut the answer', 'GetObject')
    const answer = await within(REFUSED_SECONDS_MAX, () => registry.request(path))
    expect(answer.status).toBe(200)
    const found = await within(REFUSED_SECONDS_MAX, () => pulled(answer))
    // Each response has some of the bytes, so the pull may succeed, but then with all of them.
    expect(found === undefined || found.equals(bytes)).toBe(true)
  })
})

it.each<Fault>(['500', 'forbidden', 'cut'])(
  'the registry is not ready while the store fails (%s), alive all the time, and ready afterwards',
  async (fault) => {
    const { registry, proxy } = faulty
    proxy.inject(fault, undefined)
    const answer = await within(TIMEOUT_SECONDS + 2, () => registry.anonymous('/readyz'))
    expect(answer.status).toBe(503)
    expect(await answer.json()).toMatchObject({ errors: [{ code: 'UNAVAILABLE' }] })
    expect((await registry.anonymous('/healthz')).status).toBe(200)
    proxy.clear()
    expect((await registry.anonymous('/readyz')).status).toBe(200)
  },
)

it('while every call hangs, every request gets a response within the limit', async () => {
  const { registry, proxy } = faulty
  const { path, bytes } = blobs.small
  const push = await beginPush(registry, 'small', 'PUT')
  const uploads = `/v2/${push.repository}/blobs/uploads/?digest=${push.digest}`
  proxy.inject('hang', undefined)
  const [ready, ...answers] = await within(REFUSED_SECONDS_MAX, () =>
    Promise.all([
      within(TIMEOUT_SECONDS + 2, () => registry.anonymous('/readyz')),
      registry.request(path),
      finishPush(registry, push),
      send(registry, 'POST', uploads, push.bytes),
    ]),
  )
  expect(ready.status).toBe(503)
  for (const answer of answers) await expectUnavailable(answer)
  expect(await look(registry, push)).toBe(404)
  proxy.clear()
  expect((await registry.anonymous('/readyz')).status).toBe(200)
  expect((await pulled(await registry.request(path)))?.equals(bytes)).toBe(true)
  await pushAgain(registry, push)
  await expectPulled(registry, push)
})
