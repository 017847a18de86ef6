import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { call, createClient } from '../../src/storage/s3/client.ts'

const TIMEOUT_SECONDS = 30
const CALLS_OF_OUTAGE = 20

/** A store that fails as long as it has failures left. */
let server: Server
let failures: { left: number; status: number; code: string }
let requests = 0
let client: S3Client

beforeEach(async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'a')
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'b')
  failures = { left: 0, status: 500, code: 'InternalError' }
  server = createServer((request, response) => {
    requests += 1
    request.resume().on('end', () => {
      if (failures.left === 0) return response.setHeader('etag', '"a"').end()
      failures.left -= 1
      response.writeHead(failures.status, { 'content-type': 'application/xml' })
      return response.end(`<Error><Code>${failures.code}</Code></Error>`)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  client = createClient({
    ...{ bucket: 'bucket', prefix: '', region: 'us-east-1', pathStyle: true },
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    checksums: 'when_required',
    publicEndpoint: undefined,
    timeoutSeconds: TIMEOUT_SECONDS,
  })
})

afterEach(() => {
  vi.unstubAllEnvs()
  client.destroy()
  server.close()
})

/** Returns how often the store was asked by one call, and its error. */
async function put(): Promise<{ attempts: number; error: unknown }> {
  const before = requests
  const command = new PutObjectCommand({ Bucket: 'bucket', Key: 'key', Body: Buffer.from('x') })
  const error = await call(TIMEOUT_SECONDS, (options) => client.send(command, options)).then(
    () => undefined,
    (reason) => reason,
  )
  return { attempts: requests - before, error }
}

it.each([
  [500, 'InternalError'],
  [503, 'SlowDown'],
])('a call that fails with %i %s is repeated three times', async (status, code) => {
  failures = { left: 3, status, code }
  expect(await put()).toEqual({ attempts: 4, error: undefined })
  failures.left = 4
  expect(await put()).toMatchObject({ attempts: 4, error: { name: 'StoreUnavailableError' } })
})

it('a refusal is not repeated', async () => {
  failures = { left: 1, status: 403, code: 'AccessDenied' }
  expect(await put()).toMatchObject({ attempts: 1, error: { name: 'StoreUnavailableError' } })
})

it('in an outage calls are repeated no more, and afterwards as before', async () => {
  failures.left = Number.POSITIVE_INFINITY
  await Promise.all(Array.from({ length: CALLS_OF_OUTAGE }, put))
  expect(await put()).toMatchObject({ attempts: 1, error: { name: 'StoreUnavailableError' } })
  failures.left = 0
  expect(await put()).toEqual({ attempts: 1, error: undefined })
  failures.left = 3
  expect(await put()).toEqual({ attempts: 4, error: undefined })
})
