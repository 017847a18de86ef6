import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { expectError, newRepository, OCTETS, send, startUpload } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let repository: string

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_BLOB_BYTES_MAX: '1000000' })
  repository = newRepository()
})

afterAll(() => registry.close())

type Flow = (bytes: Buffer, digest: string) => Promise<Response>

const algorithmQuery = (digest: string) =>
  digest.startsWith('sha512') ? '?digest-algorithm=sha512' : ''

const chunk = (location: string, bytes: Buffer, start: number, method = 'PATCH') =>
  send(registry, method, location, bytes, {
    'content-range': `${start}-${start + bytes.length - 1}`,
  })

const flows: Record<string, Flow> = {
  'end-4b: one POST': (bytes, digest) =>
    send(registry, 'POST', `/v2/${repository}/blobs/uploads/?digest=${digest}`, bytes),
  'end-4a, end-6: POST and PUT': async (bytes, digest) => {
    const location = await startUpload(registry, repository, algorithmQuery(digest))
    return send(registry, 'PUT', `${location}?digest=${digest}`, bytes)
  },
  'end-5: chunks and an empty PUT': async (bytes, digest) => {
    const location = await startUpload(registry, repository, algorithmQuery(digest))
    for (let at = 0; at < bytes.length; at += 1000) {
      const answer = await chunk(location, bytes.subarray(at, at + 1000), at)
      expect(answer.status).toBe(202)
      const end = Math.min(at + 1000, bytes.length) - 1
      expect(answer.headers.get('range')).toBe(`0-${end}`)
      expect(answer.headers.get('location')).toBe(location)
    }
    return send(registry, 'PUT', `${location}?digest=${digest}`)
  },
  'end-5: chunks and the last in the PUT': async (bytes, digest) => {
    const location = await startUpload(registry, repository, algorithmQuery(digest))
    const half = Math.floor(bytes.length / 2)
    if (half > 0) expect((await chunk(location, bytes.subarray(0, half), 0)).status).toBe(202)
    const rest = bytes.subarray(half)
    const closing = `${location}?digest=${digest}`
    return rest.length > 0
      ? chunk(closing, rest, half, 'PUT')
      : send(registry, 'PUT', closing, rest)
  },
  'end-5: one stream without a length': async (bytes, digest) => {
    const location = await startUpload(registry, repository)
    const answer = await registry.request(location, {
      method: 'PATCH',
      headers: OCTETS,
      body: new ReadableStream({
        start(controller) {
          controller.enqueue(new Uint8Array(bytes))
          controller.close()
        },
      }),
      duplex: 'half',
    } as RequestInit)
    expect(answer.status).toBe(202)
    return send(registry, 'PUT', `${location}?digest=${digest}`)
  },
}

describe.each(Object.entries(flows))('%s', (_name, flow) => {
  it.each([
    ['sha256', 3500],
    ['sha512', 3500],
    ['sha256', 1],
    ['sha256', 0],
    ['sha512', 0],
  ])('stores a blob with %s of %i bytes', async (algorithm, size) => {
    const bytes = randomBytes(size)
    const digest = digestOf(bytes, algorithm)
    const answer = await flow(bytes, digest)
    expect([answer.status, await answer.text()]).toEqual([201, ''])
    expect(answer.headers.get('docker-content-digest')).toBe(digest)
    const pulled = await registry.anonymous(answer.headers.get('location') ?? '')
    expect(pulled.headers.get('content-length')).toBe(String(size))
    expect(Buffer.from(await pulled.arrayBuffer())).toEqual(bytes)
  })

  it('refuses content with another digest, and stores no blob', async () => {
    const digest = digestOf(randomBytes(10))
    await expectError(await flow(randomBytes(2500), digest), 400, 'DIGEST_INVALID')
    const head = await registry.request(`/v2/${repository}/blobs/${digest}`, { method: 'HEAD' })
    expect(head.status).toBe(404)
  })

  it('refuses a blob that is larger than the limit', async () => {
    if (_name.includes('chunks and')) return
    const bytes = randomBytes(1_000_001)
    const location = flow(bytes, digestOf(bytes))
    const outcome = await location.catch((error: Error) => error)
    if (outcome instanceof Response) await expectError(outcome, 413, 'PAYLOAD_TOO_LARGE')
    else expect(outcome.message).toContain('413')
  })
})

describe('end-5, end-6: chunks that do not fit', () => {
  const [one, two] = [randomBytes(1000), randomBytes(500)]
  const digest = digestOf(Buffer.concat([one, two]))

  it.each(['PATCH', 'PUT'])(
    'out of order in a %s are 416 and the upload continues',
    async (method) => {
      const location = await startUpload(registry, repository)
      expect((await chunk(location, one, 0)).status).toBe(202)
      const target = method === 'PUT' ? `${location}?digest=${digest}` : location
      for (const start of [0, 999, 1001, 5000]) {
        const answer = await chunk(target, two, start, method)
        expect(answer.headers.get('range')).toBe('0-999')
        await expectError(answer, 416, 'RANGE_INVALID')
      }
      const status = await registry.request(location)
      expect([status.status, status.headers.get('range')]).toEqual([204, '0-999'])
      expect((await chunk(`${location}?digest=${digest}`, two, 1000, 'PUT')).status).toBe(201)
    },
  )

  it('the first chunk must begin at 0', async () => {
    const location = await startUpload(registry, repository)
    await expectError(await chunk(location, two, 1), 416, 'RANGE_INVALID')
  })

  it.each(['bytes 0-499/500', '0-499/*', 'x-y', '499-0', '0'])(
    'Content-Range: %s is 400',
    async (range) => {
      const location = await startUpload(registry, repository)
      const answer = await send(registry, 'PATCH', location, two, { 'content-range': range })
      await expectError(answer, 400, 'BLOB_UPLOAD_INVALID')
    },
  )

  it('with a length that differs from Content-Range are 400', async () => {
    const location = await startUpload(registry, repository)
    const answer = await send(registry, 'PATCH', location, two, { 'content-range': '0-999' })
    await expectError(answer, 400, 'SIZE_INVALID')
    expect((await chunk(location, one, 0)).status).toBe(202)
  })

  it('a closing PUT without a digest, or with a malformed one, is 400 and the upload continues', async () => {
    const location = await startUpload(registry, repository)
    await expectError(await send(registry, 'PUT', location, one), 400, 'DIGEST_INVALID')
    const malformed = await send(registry, 'PUT', `${location}?digest=sha256:zz`, one)
    await expectError(malformed, 400, 'DIGEST_INVALID')
    const wrong = await send(registry, 'PUT', `${location}?digest=${digestOf('no')}`, one)
    await expectError(wrong, 400, 'DIGEST_INVALID')
    const right = await send(registry, 'PUT', `${location}?digest=${digestOf(one)}`, one)
    expect(right.status).toBe(201)
  })

  it('an upload started for sha256 may be closed with a sha512 digest', async () => {
    const location = await startUpload(registry, repository)
    expect((await chunk(location, one, 0)).status).toBe(202)
    const closing = `${location}?digest=${digestOf(one, 'sha512')}`
    expect((await send(registry, 'PUT', closing)).status).toBe(201)
  })

  it('two concurrent chunks: one wins, the other waits or is out of order, and can continue', async () => {
    const location = await startUpload(registry, repository)
    const answers = await Promise.all([chunk(location, one, 0), chunk(location, one, 0)])
    const [won, other] = answers.sort((a, b) => a.status - b.status)
    expect(won?.status).toBe(202)
    if (other?.status === 503) expect(Number(other.headers.get('retry-after'))).toBeGreaterThan(0)
    else expect(other?.status).toBe(416)
    expect((await chunk(location, two, 1000)).status).toBe(202)
    const closed = await send(registry, 'PUT', `${location}?digest=${digest}`)
    expect(closed.status).toBe(201)
  })
})

describe('end-13, end-14: status and cancel', () => {
  it('a cancelled upload is unknown', async () => {
    const location = await startUpload(registry, repository)
    expect((await registry.request(location)).status).toBe(204)
    expect((await registry.request(location, { method: 'DELETE' })).status).toBe(204)
    for (const method of ['GET', 'DELETE', 'PATCH']) {
      const answer = await registry.request(location, { method })
      await expectError(answer, 404, 'BLOB_UPLOAD_UNKNOWN')
    }
  })

  it('an upload is unknown in another repository, and so is an invented id', async () => {
    const location = await startUpload(registry, repository)
    const made = ['x', '..', `${'0'.repeat(8)}-0000-0000-0000-${'0'.repeat(12)}`]
    const paths = made.map((id) => `/v2/${repository}/blobs/uploads/${encodeURIComponent(id)}`)
    for (const path of [location.replace(repository, newRepository()), paths[0], paths[2]]) {
      await expectError(await registry.request(path ?? ''), 404, 'BLOB_UPLOAD_UNKNOWN')
    }
  })
})

it('end-4c: an unknown algorithm is 400', async () => {
  const answer = await send(
    registry,
    'POST',
    `/v2/${repository}/blobs/uploads/?digest-algorithm=md5`,
  )
  await expectError(answer, 400, 'DIGEST_INVALID')
})
