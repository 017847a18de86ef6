import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { expectError, newRepository, pushBlob, send, startUpload } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let repository: string
const content = randomBytes(2048)
let path: string

beforeAll(async () => {
  registry = await startRegistry()
  repository = newRepository()
  const { digest } = await pushBlob(registry, repository, content)
  path = `/v2/${repository}/blobs/${digest}`
})

afterAll(() => registry.close())

describe.each(['sha256', 'sha512'])('end-2: pulling a blob by %s', (algorithm) => {
  it('returns its bytes, digest, length and entity tag, to any caller', async () => {
    const blob = await pushBlob(registry, repository, randomBytes(5000), algorithm)
    const answer = await registry.anonymous(`/v2/${repository}/blobs/${blob.digest}`)
    expect(answer.status).toBe(200)
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(blob.bytes)
    expect(answer.headers.get('docker-content-digest')).toBe(blob.digest)
    expect(answer.headers.get('content-length')).toBe('5000')
    expect(answer.headers.get('etag')).toBe(`"${blob.digest}"`)
    expect(answer.headers.get('accept-ranges')).toBe('bytes')
  })

  it('HEAD returns the same headers and no body', async () => {
    const blob = await pushBlob(registry, repository, randomBytes(77), algorithm)
    const answer = await registry.anonymous(`/v2/${repository}/blobs/${blob.digest}`, {
      method: 'HEAD',
    })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-length')).toBe('77')
    expect(answer.headers.get('docker-content-digest')).toBe(blob.digest)
    expect(await answer.text()).toBe('')
  })
})

describe('end-2: pulling a blob that does not exist', () => {
  it('is 404 BLOB_UNKNOWN in a repository that exists', async () => {
    const missing = digestOf('nothing has this content')
    await expectError(
      await registry.anonymous(`/v2/${repository}/blobs/${missing}`),
      404,
      'BLOB_UNKNOWN',
    )
  })

  it('is 404 NAME_UNKNOWN for the administrator in a missing repository', async () => {
    const missing = `/v2/${newRepository()}/blobs/${digestOf('x')}`
    await expectError(await registry.request(missing), 404, 'NAME_UNKNOWN')
  })

  it('is invisible in another repository', async () => {
    const other = newRepository()
    await pushBlob(registry, other)
    const through = path.replace(repository, other)
    await expectError(await registry.request(through), 404, 'BLOB_UNKNOWN')
  })

  it.each([
    'sha256:abc',
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'a'.repeat(65)}`,
    `md5:${'a'.repeat(32)}`,
    `sha384:${'a'.repeat(96)}`,
    'latest',
    'sha256%3A..%2F..',
  ])('a digest like %s is 400 DIGEST_INVALID', async (digest) => {
    const at = `/v2/${repository}/blobs/${digest}`
    await expectError(await registry.request(at), 400, 'DIGEST_INVALID')
  })

  it('the empty descriptor’s blob is one like any other: absent until its push, and after its deletion', async () => {
    const other = newRepository()
    await pushBlob(registry, other)
    const at = `/v2/${other}/blobs/${digestOf('{}')}`
    await expectError(await registry.anonymous(at), 404, 'BLOB_UNKNOWN')
    await pushBlob(registry, other, Buffer.from('{}'))
    const answer = await registry.anonymous(at)
    expect([answer.status, await answer.text()]).toEqual([200, '{}'])
    expect((await registry.request(at, { method: 'DELETE' })).status).toBe(202)
    await expectError(await registry.anonymous(at), 404, 'BLOB_UNKNOWN')
  })
})

describe('end-2: ranges of 2048 bytes', () => {
  it.each([
    ['bytes=500-1499', 500, 1499],
    ['bytes=500-', 500, 2047],
    ['bytes=-500', 1548, 2047],
    ['bytes=2000-5000', 2000, 2047],
    ['bytes=0-0', 0, 0],
    ['bytes=-9999', 0, 2047],
  ])('%s is 206 with bytes %i to %i', async (range, start, end) => {
    const answer = await registry.anonymous(path, { headers: { range } })
    expect(answer.status).toBe(206)
    expect(answer.headers.get('content-range')).toBe(`bytes ${start}-${end}/2048`)
    expect(answer.headers.get('content-length')).toBe(String(end - start + 1))
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(content.subarray(start, end + 1))
  })

  it.each(['bytes=500-0', 'bytes=5000-10000', 'bytes=2048-', 'bytes=-0'])(
    '%s is 416',
    async (range) => {
      const answer = await registry.anonymous(path, { headers: { range } })
      expect(answer.headers.get('content-range')).toBe('bytes */2048')
      await expectError(answer, 416, 'RANGE_INVALID')
    },
  )

  it.each(['bytes=0-1,5-6', 'lines=1-2', 'bytes=x-y', 'bytes=-'])(
    '%s is the whole blob',
    async (range) => {
      const answer = await registry.anonymous(path, { headers: { range } })
      expect(answer.status).toBe(200)
      expect(Buffer.from(await answer.arrayBuffer())).toEqual(content)
    },
  )

  it('counts only while If-Range names the same bytes', async () => {
    const headers = { range: 'bytes=0-1', 'if-range': `"${digestOf('other')}"` }
    expect((await registry.anonymous(path, { headers })).status).toBe(200)
    const same = { range: 'bytes=0-1', 'if-range': `"${digestOf(content)}"` }
    expect((await registry.anonymous(path, { headers: same })).status).toBe(206)
  })
})

describe('end-2: conditional requests', () => {
  const digest = digestOf(content)
  it.each([`"${digest}"`, digest, `W/"${digest}"`, `"x", "${digest}"`, '*'])(
    'If-None-Match: %s is 304 without a body',
    async (tag) => {
      for (const method of ['GET', 'HEAD']) {
        const answer = await registry.anonymous(path, { method, headers: { 'if-none-match': tag } })
        expect([answer.status, await answer.text()]).toEqual([304, ''])
        expect(answer.headers.get('etag')).toBe(`"${digest}"`)
      }
    },
  )

  it('If-None-Match with another digest returns the blob', async () => {
    const answer = await registry.anonymous(path, { headers: { 'if-none-match': '"x"' } })
    expect(answer.status).toBe(200)
  })
})

describe('end-10: deleting a blob', () => {
  it('takes effect before the response, in this repository only', async () => {
    const [here, there] = [newRepository(), newRepository()]
    const { digest } = await pushBlob(registry, here)
    const mounted = await send(
      registry,
      'POST',
      `/v2/${there}/blobs/uploads/?mount=${digest}&from=${here}`,
    )
    expect(mounted.status).toBe(201)
    const at = `/v2/${here}/blobs/${digest}`
    expect((await registry.request(at, { method: 'DELETE' })).status).toBe(202)
    expect((await registry.request(at, { method: 'HEAD' })).status).toBe(404)
    expect((await registry.request(at.replace(here, there), { method: 'HEAD' })).status).toBe(200)
    await expectError(await registry.request(at, { method: 'DELETE' }), 404, 'BLOB_UNKNOWN')
  })

  it('of a repository that does not exist is 404', async () => {
    const at = `/v2/${newRepository()}/blobs/${digestOf('x')}`
    await expectError(await registry.request(at, { method: 'DELETE' }), 404, 'NAME_UNKNOWN')
  })
})

describe('end-11: mounting a blob', () => {
  it.each(['with from', 'without from'])(
    '%s is 201, and the repository has the blob',
    async (how) => {
      const [here, there] = [newRepository(), newRepository()]
      const { digest, bytes } = await pushBlob(registry, here)
      const from = how === 'with from' ? `&from=${here}` : ''
      const answer = await send(
        registry,
        'POST',
        `/v2/${there}/blobs/uploads/?mount=${digest}${from}`,
      )
      expect(answer.status).toBe(201)
      expect(answer.headers.get('docker-content-digest')).toBe(digest)
      const pulled = await registry.anonymous(answer.headers.get('location') ?? '')
      expect(Buffer.from(await pulled.arrayBuffer())).toEqual(bytes)
    },
  )

  it.each(['no repository has', 'the named repository does not have'])(
    'of a blob that %s is 202 and an ordinary upload',
    async (what) => {
      const [here, there] = [newRepository(), newRepository()]
      const pushed = await pushBlob(registry, here)
      const bytes = what === 'no repository has' ? randomBytes(10) : pushed.bytes
      const from = what === 'no repository has' ? here : newRepository()
      const digest = digestOf(bytes)
      const location = await startUpload(registry, there, `?mount=${digest}&from=${from}`)
      const put = await send(registry, 'PUT', `${location}?digest=${digest}`, bytes)
      expect(put.status).toBe(201)
    },
  )

  it('of a malformed digest, or from a malformed name, is 400', async () => {
    const at = `/v2/${repository}/blobs/uploads/?mount=`
    await expectError(await send(registry, 'POST', `${at}sha256:x`), 400, 'DIGEST_INVALID')
    const from = `${at}${digestOf('x')}&from=UPPER`
    await expectError(await send(registry, 'POST', from), 400, 'NAME_INVALID')
  })
})
