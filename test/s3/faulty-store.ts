import { randomBytes } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import type pg from 'pg'
import { expect } from 'vitest'
import { StoreUnavailableError } from '../../src/storage/blob-store.ts'
import { openSweeper, type Sweeper } from '../garbage/sweeper.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository, send, startUpload } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { s3Server } from '../support/s3.ts'
import { FaultProxy } from './fault-proxy.ts'

/** The limit of one call to the store, including its retries. */
export const TIMEOUT_SECONDS = 3
const SWEEPS_MAX = 3
/** Attempts to finish a push after its first refusal. */
const ATTEMPTS_MAX = 4
/** The time until a client gets an error: one call that hangs, and one that cleans up. */
export const REFUSED_SECONDS_MAX = 2 * TIMEOUT_SECONDS + 2

const KIB = 1024
const MIB = 1024 * KIB

/** `small` fits into one object; `large` takes parts, which are of 8 MiB. */
export type Size = 'small' | 'large'
/** `PUT`: a POST, and everything in the closing PUT. `PATCH`: two chunks, and the rest in the PUT. */
export type Way = 'PUT' | 'PATCH'

const PIECES: Readonly<Record<Size, Readonly<Record<Way, readonly number[]>>>> = {
  small: { PUT: [64 * KIB], PATCH: [30 * KIB, 20 * KIB, 14 * KIB] },
  large: { PUT: [20 * MIB], PATCH: [9 * MIB, 8 * MIB, 3 * MIB] },
}

/** A client's push of one blob. */
export type Push = {
  readonly repository: string
  readonly bytes: Buffer
  readonly digest: string
  /** Sizes of the chunks; the last one goes with the closing PUT. */
  readonly pieces: readonly number[]
  location: string
  /** Bytes that were acknowledged. */
  sent: number
}

/** A registry whose object store is behind a proxy that injects faults. */
export type Faulty = {
  readonly registry: TestRegistry
  readonly proxy: FaultProxy
  readonly sweeper: Sweeper
  /** Expires every upload, sweeps, and returns the names in the bucket without a row. */
  leftBehind(): Promise<string[]>
  close(): Promise<void>
}

/** Starts a registry in this process. `close` searches its whole log for secrets. */
export async function startFaulty(settings: Record<string, string> = {}): Promise<Faulty> {
  const proxy = await FaultProxy.start(s3Server().endpoint)
  const registry = await startRegistry({
    ROOKERY_S3_ENDPOINT: proxy.url,
    ROOKERY_S3_TIMEOUT_SECONDS: String(TIMEOUT_SECONDS),
    // The tests sweep themselves.
    ROOKERY_GC_INTERVAL_SECONDS: '3600',
    ROOKERY_LOG_LEVEL: 'debug',
    ...settings,
  })
  const sweeper = await openSweeper(registry)
  return {
    registry,
    proxy,
    sweeper,
    async leftBehind() {
      await expireAll(sweeper.client)
      await sweepWhenAvailable(sweeper)
      return unnamed(registry, sweeper.client)
    },
    async close() {
      await sweeper.close()
      await registry.close()
      await proxy.close()
      expectNoSecrets(registry)
    },
  }
}

/** Sweeps again when a busy store does not answer within TIMEOUT_SECONDS, as the registry does in its next round. */
async function sweepWhenAvailable(sweeper: Sweeper): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await sweeper.sweepAll()
      return
    } catch (error) {
      if (!(error instanceof StoreUnavailableError) || attempt === SWEEPS_MAX) throw error
      await expireAll(sweeper.client)
    }
  }
}

/** Makes all uploads expire, even those whose writer died, and all deletions due. */
export async function expireAll(client: pg.Client): Promise<void> {
  await client.query(
    `update uploads
        set expires_at = now() - interval '1 second',
            lease_until = case when lease is null then null else now() - interval '1 second' end`,
  )
  await client.query(`update deletion_queue set due_at = now() - interval '1 second'`)
}

/** Lists the names in the bucket that belong to no blob. */
export async function unnamed(
  registry: Pick<TestRegistry, 'storedObjects'>,
  client: pg.Client,
): Promise<string[]> {
  const { rows } = await client.query<{ key: string }>('select storage_key as key from blobs')
  const named = new Set(rows.map(({ key }) => `object ${key}`))
  const held = await registry.storedObjects()
  return held.map(({ name }) => name).filter((name) => !named.has(name))
}

/** Asserts that the log has no secret key, no signature, and no client's credential. */
export function expectNoSecrets({ log, password }: TestRegistry): void {
  const text = log.join('')
  expect(text.length).toBeGreaterThan(0)
  const { secretAccessKey } = s3Server()
  const sentByClients = Buffer.from(`admin:${password}`).toString('base64')
  for (const secret of [secretAccessKey, password, sentByClients]) {
    expect(text.includes(secret)).toBe(false)
  }
  expect(text).not.toMatch(/AWS4-HMAC-SHA256|"authorization"|Signature=/i)
}

/** Starts an upload of random bytes. */
export async function beginPush(registry: TestRegistry, size: Size, way: Way): Promise<Push> {
  const pieces = PIECES[size][way]
  const bytes = randomBytes(pieces.reduce((sum, piece) => sum + piece, 0))
  const repository = newRepository()
  const location = await startUpload(registry, repository)
  return { repository, bytes, digest: digestOf(bytes), pieces, location, sent: 0 }
}

/** Sends the rest, and returns the 201, or the first refusal. */
export async function finishPush(registry: TestRegistry, push: Push): Promise<Response> {
  const { bytes, pieces } = push
  let end = 0
  for (const piece of pieces.slice(0, -1)) {
    end += piece
    if (end <= push.sent) continue
    const chunk = bytes.subarray(push.sent, end)
    const range = { 'content-range': `${push.sent}-${end - 1}` }
    const answer = await send(registry, 'PATCH', push.location, chunk, range)
    if (answer.status !== 202) return answer
    push.sent = end
  }
  const rest = bytes.subarray(push.sent)
  return send(registry, 'PUT', `${push.location}?digest=${push.digest}`, rest)
}

/** How a client continued. */
export type Resumed = 'went on' | 'began anew'

/**
 * Continues at the position of the status, or starts again when the upload is unknown, until the blob exists.
 * Waits and repeats after a 503, as clients do: a busy store may need longer than TIMEOUT_SECONDS without a
 * fault of ours.
 */
export async function pushAgain(registry: TestRegistry, push: Push): Promise<Resumed> {
  let resumed: Resumed = 'went on'
  for (let attempt = 1; ; attempt += 1) {
    const status = await registry.request(push.location)
    if (status.status === 204) {
      const last = Number(/^0-(\d+)$/.exec(status.headers.get('range') ?? '')?.[1])
      push.sent = last === 0 ? 0 : last + 1
    } else {
      expect(status.status).toBe(404)
      resumed = 'began anew'
      push.location = await startUpload(registry, push.repository)
      push.sent = 0
    }
    const answer = await finishPush(registry, push)
    if (answer.status === 201) return resumed
    expect(attempt).toBeLessThan(ATTEMPTS_MAX)
    if (answer.status === 503) {
      await expectUnavailable(answer)
      await setTimeout(Number(answer.headers.get('retry-after')) * 1000)
    } else {
      expect({ status: answer.status, text: await answer.text() }).toMatchObject({
        status: 404,
        text: expect.stringContaining('BLOB_UPLOAD_UNKNOWN'),
      })
    }
  }
}

/** Repeats a request after a 503, as clients do: a busy store may need longer than TIMEOUT_SECONDS. Returns the last answer. */
export async function untilAvailable(request: () => Promise<Response>): Promise<Response> {
  for (let attempt = 1; ; attempt += 1) {
    const answer = await request()
    if (answer.status !== 503 || attempt === ATTEMPTS_MAX) return answer
    await expectUnavailable(answer)
    await setTimeout(Number(answer.headers.get('retry-after')) * 1000)
  }
}

/** Asserts that the blob exists with the pushed bytes. */
export async function expectPulled(registry: TestRegistry, push: Push): Promise<void> {
  const answer = await registry.request(`/v2/${push.repository}/blobs/${push.digest}`)
  expect(answer.status).toBe(200)
  expect(Buffer.from(await answer.arrayBuffer()).equals(push.bytes)).toBe(true)
}

/** Returns the status of a HEAD of the blob. */
export async function look(registry: TestRegistry, push: Push): Promise<number> {
  const path = `/v2/${push.repository}/blobs/${push.digest}`
  return (await registry.request(path, { method: 'HEAD' })).status
}

/** Asserts a 503 with the spec's JSON and the time to retry. */
export async function expectUnavailable(answer: Response): Promise<void> {
  const text = await answer.text()
  expect({ status: answer.status, text }).toMatchObject({ status: 503 })
  expect(answer.headers.get('content-type')).toContain('application/json')
  expect(answer.headers.get('retry-after')).toMatch(/^[1-9]\d*$/)
  expect(JSON.parse(text).errors).toMatchObject([{ code: 'UNAVAILABLE' }])
}

/** Returns the result of `work`, and asserts that it took at most this many seconds. */
export async function within<T>(secondsMax: number, work: () => Promise<T>): Promise<T> {
  const begun = performance.now()
  const result = await work()
  expect((performance.now() - begun) / 1000).toBeLessThan(secondsMax)
  return result
}
