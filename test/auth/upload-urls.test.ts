import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GarbageCollector } from '../../src/registry/maintenance/garbage.ts'
import { FilesystemStore } from '../../src/storage/filesystem/filesystem-store.ts'
import { digestOf } from '../support/digest.ts'
import { eventually } from '../support/eventually.ts'
import { EMPTY_JSON, IMAGE_MANIFEST } from '../support/media-types.ts'
import { expectError } from '../support/push.ts'
import { RawClient, RawConnection, requestBytes } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  auditOf,
  changeSettings,
  createUploadUrl,
  from,
  makeBuilder,
  newRepository,
  put,
  putSlowly,
  requestUploadUrl,
  tagsOf,
  uploadsIn,
  withDatabase,
} from './upload-url-client.ts'

const BLOB_BYTES_MAX = 1_000_000

let registry: TestRegistry
let client: pg.Client

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_BLOB_BYTES_MAX: String(BLOB_BYTES_MAX),
    // A test sets the client's address by X-Forwarded-For.
    ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
  })
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})

afterAll(async () => {
  await client.end()
  await registry.close()
})

/** Waits for the refusal in the audit log, which is written shortly after the response. */
function expectRefusal(repository: string, why: string): Promise<void> {
  return eventually(async () => {
    const refused = (await auditOf(client, repository)).filter(
      ({ decision }) => decision === 'refused',
    )
    expect(refused.at(-1)).toMatchObject({
      action: 'use-upload-url',
      actor: 'admin',
      tags: ['v1'],
      detail: expect.stringMatching(new RegExp(`^upload URL \\d+: .*${why}`)),
    })
  })
}

describe('an upload URL is created', () => {
  it('for 15 minutes, and only the response contains it', async () => {
    const repository = newRepository()
    const { url, expiresAt, ...more } = await createUploadUrl(registry, repository)
    expect(url).toMatch(new RegExp(`^${registry.url}/upload/rku_[\\w-]{43}_[0-9a-f]{8}$`))
    expect(Date.parse(expiresAt) - Date.now()).toBeGreaterThan(880_000)
    expect(Date.parse(expiresAt) - Date.now()).toBeLessThan(920_000)
    expect(more).toEqual({ repository, tag: 'v1' })
    expect(await auditOf(client, repository)).toEqual([
      expect.objectContaining({ action: 'create-upload-url', decision: 'allowed', actor: 'admin' }),
    ])
  })

  it('for the requested time, at most an hour', async () => {
    const repository = newRepository()
    const { expiresAt } = await createUploadUrl(registry, repository, 'v1', undefined, {
      ttlSeconds: 3600,
    })
    expect(Date.parse(expiresAt) - Date.now()).toBeGreaterThan(3_500_000)
    for (const wrong of [{ ttlSeconds: 0 }, { ttlSeconds: 3601 }, { ttlSeconds: 1.5 }, []]) {
      const answer = await requestUploadUrl(registry, repository, 'v1', undefined, wrong)
      await expectError(answer, 400, 'REQUEST_INVALID')
    }
    const unheard = await requestUploadUrl(registry, repository, 'v1', undefined, { ttl: 60 })
    await expectError(unheard, 400, 'REQUEST_INVALID')
    await expectError(await requestUploadUrl(registry, repository, '-v1'), 400, 'TAG_INVALID')
    await expectError(await requestUploadUrl(registry, 'UPPER', 'v1'), 400, 'NAME_INVALID')
  })

  it('only by callers that may push the tag', async () => {
    const [mine, yours] = ['uploads/mine', 'uploads/yours']
    const builder = await makeBuilder(registry, 'narrow', { repositories: [mine], tags: ['v*'] })
    await createUploadUrl(registry, mine, 'v7', builder)
    await expectError(await requestUploadUrl(registry, mine, 'latest', builder), 403, 'DENIED')
    await expectError(await requestUploadUrl(registry, yours, 'v7', builder), 403, 'DENIED')
    const reader = await makeBuilder(registry, 'reader', { actions: ['pull', 'delete'] })
    await expectError(await requestUploadUrl(registry, mine, 'v7', reader), 403, 'DENIED')
    await expectError(await requestUploadUrl(registry, mine, 'v7', {}), 401, 'UNAUTHORIZED')
    const scope = `repository:${mine}:push`
    const issued = await registry.anonymous(`/token?scope=${scope}`, { headers: builder })
    const { token } = (await issued.json()) as { token: string }
    const bearer = { authorization: `Bearer ${token}` }
    await createUploadUrl(registry, mine, 'v8', bearer)
    expect((await requestUploadUrl(registry, mine, 'latest', bearer)).status).toBe(403)
    expect((await requestUploadUrl(registry, yours, 'v8', bearer)).status).toBe(403)
  })

  it('with at most the lifetime of the credential', async () => {
    const expiresAt = new Date(Date.now() + 60_000)
    const builder = await makeBuilder(registry, 'short', { expiresAt: expiresAt.toISOString() })
    const made = await createUploadUrl(registry, newRepository(), 'v1', builder)
    expect(made.expiresAt).toBe(expiresAt.toISOString())
  })
})

describe('an upload URL accepts a file', () => {
  it('without a credential, and creates an image', async () => {
    const repository = newRepository()
    const builder = await makeBuilder(registry, 'maker', { tags: ['v*'] })
    const { url } = await createUploadUrl(registry, repository, 'v1', builder)
    const answer = await put(`${url}/hello%20w%C3%B6rld.hvt`, 'a kernel', from('192.0.2.7'))
    expect(answer.status).toBe(201)
    const blob = { mediaType: 'application/octet-stream', digest: digestOf('a kernel'), size: 8 }
    const body = (await answer.json()) as { digest: string }
    expect(body).toEqual({
      ...{ repository, tag: 'v1', digest: expect.any(String), blob },
      deployments: [],
    })
    expect(answer.headers.get('docker-content-digest')).toBe(body.digest)
    const pulled = await fetch(new URL(answer.headers.get('location') ?? '', registry.url))
    const text = await pulled.text()
    expect(digestOf(text)).toBe(body.digest)
    expect(pulled.headers.get('content-type')).toBe(IMAGE_MANIFEST)
    const title = { 'org.opencontainers.image.title': 'hello wörld.hvt' }
    expect(JSON.parse(text)).toMatchObject({
      artifactType: blob.mediaType,
      config: { mediaType: EMPTY_JSON, size: 2 },
      layers: [{ ...blob, annotations: title }],
    })
    const bytes = await registry.anonymous(`/v2/${repository}/blobs/${blob.digest}`)
    expect(await bytes.text()).toBe('a kernel')
    expect(await tagsOf(registry, repository)).toEqual(['v1'])
    const common = { actor: 'maker', origin: expect.stringMatching(/^credential:\d+$/) }
    const used = { ...common, address: '192.0.2.7', tags: ['v1'], digest: body.digest }
    expect(await auditOf(client, repository)).toEqual([
      expect.objectContaining({ ...common, action: 'create-upload-url', decision: 'allowed' }),
      { ...used, action: 'push', decision: 'allowed', detail: null },
      {
        ...used,
        action: 'use-upload-url',
        decision: 'allowed',
        detail: expect.stringMatching(/^upload URL \d/),
      },
    ])
  })

  it('once', async () => {
    const repository = newRepository()
    const { url } = await createUploadUrl(registry, repository)
    expect((await put(url)).status).toBe(201)
    const again = await put(url, 'another kernel')
    expect(await again.clone().text()).toMatch(/was used at 20\d\d-.*Z"/)
    await expectError(again, 410, 'GONE')
    await expectError(await put(`${url}/x`, 'another kernel'), 410, 'GONE')
    await expectRefusal(repository, 'was used at')
  })

  it('of any type and size, with a length or in chunks', async () => {
    const kinds: [string, string][] = [
      ['application/vnd.example.kernel', 'application/vnd.example.kernel'],
      ['text/plain; charset=utf-8', 'text/plain'],
      ['application/x-www-form-urlencoded', 'application/octet-stream'],
      ['nonsense', 'application/octet-stream'],
      ['application/vnd.oci.image.layer.nondistributable.v1.tar', 'application/octet-stream'],
    ]
    for (const [said, kept] of kinds) {
      const repository = newRepository()
      const bytes = randomBytes(BLOB_BYTES_MAX)
      const { url } = await createUploadUrl(registry, repository)
      const stream = new Blob([new Uint8Array(bytes)]).stream()
      const answer = await put(url, stream, { 'content-type': said })
      expect(answer.status, said).toBe(201)
      const blob = { mediaType: kept, digest: digestOf(bytes), size: bytes.length }
      expect(await answer.json()).toMatchObject({ blob })
      const manifest = await registry.request(`/v2/${repository}/manifests/v1`)
      expect(await manifest.json()).toMatchObject({
        artifactType: kept,
        layers: [
          {
            annotations: { 'org.opencontainers.image.title': repository.slice('uploads/'.length) },
          },
        ],
      })
    }
  })

  it('in a private repository, which stays hidden', async () => {
    const repository = newRepository()
    await changeSettings(registry, repository, { visibility: 'private' })
    const { url } = await createUploadUrl(registry, repository)
    expect((await put(url)).status).toBe(201)
    expect((await registry.anonymous(`/v2/${repository}/manifests/v1`)).status).toBe(401)
    expect((await registry.request(`/v2/${repository}/manifests/v1`)).status).toBe(200)
  })

  it('from one of two concurrent clients', async () => {
    const repository = newRepository()
    const { url } = await createUploadUrl(registry, repository)
    const both = [putSlowly(url, 'the first'), putSlowly(url, 'the second')]
    await eventually(async () => expect(await uploadsIn(client, repository)).toBe(2))
    await Promise.all(both.map(({ end }) => end()))
    const answers = await Promise.all(both.map(({ answer }) => answer))
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 410])
    const winner = answers.find(({ status }) => status === 201)
    const { rows } = await client.query(
      'select m.digest from manifests m join repositories r on r.id = m.repository_id where r.name = $1',
      [repository],
    )
    expect(rows).toEqual([{ digest: winner?.headers.get('docker-content-digest') }])
    expect(await tagsOf(registry, repository)).toEqual(['v1'])
    expect(await uploadsIn(client, repository)).toBe(0)
  })
})

describe('a failed upload does not use up the URL:', () => {
  it('a connection that breaks', async () => {
    const repository = newRepository()
    const { url } = await createUploadUrl(registry, repository)
    for (const headers of [{ 'Content-Length': '1000' }, { 'Transfer-Encoding': 'chunked' }]) {
      const raw = await RawConnection.open(registry.url)
      const target = new URL(url).pathname
      await raw.send(requestBytes({ method: 'PUT', target, headers }))
      await raw.send('3\r\nfew\r\n')
      await eventually(async () => expect(await uploadsIn(client, repository)).toBe(1))
      raw.close()
      await eventually(async () => expect(await uploadsIn(client, repository)).toBe(0))
    }
    // The repository that the upload created goes with it.
    const tags = () => registry.request(`/v2/${repository}/tags/list`)
    await eventually(async () => expect((await tags()).status).toBe(404))
    expect((await put(url)).status).toBe(201)
  })

  it('a file that is empty, too large, partial, or with an unusable name', async () => {
    const repository = newRepository()
    const { url } = await createUploadUrl(registry, repository)
    const none = new ReadableStream({ start: (controller) => controller.close() })
    await expectError(await put(url, ''), 400, 'REQUEST_INVALID')
    await expectError(await put(url, none), 400, 'REQUEST_INVALID')
    const large = new Uint8Array(BLOB_BYTES_MAX + 1)
    await expectError(await put(url, large), 413, 'PAYLOAD_TOO_LARGE')
    await expectError(await put(url, new Blob([large]).stream()), 413, 'PAYLOAD_TOO_LARGE')
    const part = { 'content-range': 'bytes 1-8/9' }
    await expectError(await put(url, 'a kernel', part), 400, 'REQUEST_INVALID')
    const raw = new RawClient(registry.url)
    for (const name of ['a%2Fb', 'a%5Cb', '%00', 'a%0Ab', '..', '%2e', 'x'.repeat(256), '%ff']) {
      const target = `${new URL(url).pathname}/${name}`
      const answer = await raw.request({ method: 'PUT', target, body: Buffer.from('a kernel') })
      expect(answer.status, name).toBe(400)
    }
    raw.close()
    expect(await uploadsIn(client, repository)).toBe(0)
    expect((await put(`${url}/${'x'.repeat(255)}`)).status).toBe(201)
  })

  it('a database that fails at the end, and no bytes are left', async () => {
    const repository = newRepository()
    const { url } = await createUploadUrl(registry, repository)
    const sweep = () =>
      withDatabase(registry, async (db) => {
        const store = await FilesystemStore.open(registry.folder)
        expect(await new GarbageCollector(db, store, 3600).sweep()).toMatchObject({ failures: [] })
      })
    // Removes the leftovers of earlier failures.
    await sweep()
    const held = (await registry.storedObjects()).length
    await client.query(
      `create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
       create trigger refuse before insert on blobs execute function refuse()`,
    )
    const answer = await put(url, 'a kernel that nobody sent before')
    await client.query('drop trigger refuse on blobs')
    expect(answer.status).toBe(500)
    expect(await uploadsIn(client, repository)).toBe(0)
    expect(await registry.storedObjects()).toHaveLength(held + 1)
    await sweep()
    expect(await registry.storedObjects()).toHaveLength(held)
    expect((await put(url, 'a kernel that nobody sent before')).status).toBe(201)
  })

  it('an immutable tag', async () => {
    const repository = newRepository()
    const [first, second] = [
      await createUploadUrl(registry, repository),
      await createUploadUrl(registry, repository),
    ]
    expect((await put(first.url)).status).toBe(201)
    await changeSettings(registry, repository, { immutableTags: ['v*'] })
    await expectError(await put(second.url, 'another kernel'), 403, 'DENIED')
    await expectRefusal(repository, 'immutable')
    // The same file makes the same image, so nothing would move.
    expect((await put(second.url)).status).toBe(201)
  })
})

describe('an upload URL is refused', () => {
  it('when it has expired, before a byte is sent', async () => {
    const repository = newRepository()
    const { url } = await createUploadUrl(registry, repository)
    const target = new URL(url).pathname
    const headers = { Expect: '100-continue', 'Content-Length': '8' }
    const expecting = requestBytes({ method: 'PUT', target, headers })
    const welcome = await RawConnection.open(registry.url)
    await welcome.send(expecting)
    expect((await welcome.answer('PUT')).status).toBe(100)
    welcome.close()
    await eventually(async () => expect(await uploadsIn(client, repository)).toBe(0))
    const age =
      "update upload_urls set expires_at = now() - interval '1 second' where repository = $1"
    await client.query(age, [repository])
    const refused = await RawConnection.open(registry.url)
    await refused.send(expecting)
    expect((await refused.answer('PUT')).status).toBe(410)
    refused.close()
    const answer = await put(url)
    expect(await answer.clone().text()).toMatch(/expired at 20\d\d-.*Z"/)
    await expectError(answer, 410, 'GONE')
    expect(await uploadsIn(client, repository)).toBe(0)
  })

  it('but not when it expires during the upload', async () => {
    const repository = newRepository()
    const { url } = await createUploadUrl(registry, repository)
    const { answer, end } = putSlowly(url)
    await eventually(async () => expect(await uploadsIn(client, repository)).toBe(1))
    await client.query('update upload_urls set expires_at = now() where repository = $1', [
      repository,
    ])
    await end()
    expect((await answer).status).toBe(201)
  })

  it('when its creator was revoked, immediately and also during the upload', async () => {
    const repository = newRepository()
    const builder = await makeBuilder(registry, 'leaver')
    const [early, late] = [
      await createUploadUrl(registry, repository, 'v1', builder),
      await createUploadUrl(registry, repository, 'v2', builder),
    ]
    const { answer: running, end } = putSlowly(early.url)
    await eventually(async () => expect(await uploadsIn(client, repository)).toBe(1))
    const revoked = await registry.request('/api/v1/credentials/leaver', { method: 'DELETE' })
    expect(revoked.status).toBe(204)
    await end()
    for (const answer of [await running, await put(late.url)]) {
      expect(await answer.clone().text()).toContain('was revoked')
      await expectError(answer, 410, 'GONE')
    }
    expect(await tagsOf(registry, repository)).toEqual([])
  })

  it('from an address that its creator may not use', async () => {
    const repository = newRepository()
    const builder = await makeBuilder(registry, 'fenced', { networks: ['10.1.0.0/16'] })
    const { url } = await createUploadUrl(registry, repository, 'v1', {
      ...builder,
      ...from('10.1.2.3'),
    })
    await expectError(await put(url, 'a kernel', from('10.2.2.3')), 403, 'DENIED')
    expect((await put(url, 'a kernel', from('10.1.9.9'))).status).toBe(201)
  })

  it('when it is unknown, and guesses are throttled, but not the holder of a valid URL', async () => {
    const { url } = await createUploadUrl(registry, newRepository())
    const mistyped = url.replace(/.$/, (last) => (last === '0' ? '1' : '0'))
    const guesser = from('198.51.100.1')
    for (const wrong of [mistyped, `${mistyped}/x`, `${registry.url}/upload/x`]) {
      await expectError(await put(wrong, 'a kernel', guesser), 404, 'NOT_FOUND')
    }
    let status = 404
    for (let attempts = 0; status === 404 && attempts < 40; attempts += 1) {
      status = (await put(`${registry.url}/upload/guess${attempts}`, 'a kernel', guesser)).status
    }
    expect(status).toBe(429)
    expect((await put(mistyped, 'a kernel', guesser)).status).toBe(404)
    expect((await put(url, 'a kernel', guesser)).status).toBe(201)
  })

  it('for methods other than PUT', async () => {
    const { url } = await createUploadUrl(registry, newRepository())
    for (const method of ['GET', 'HEAD', 'POST', 'PATCH', 'DELETE']) {
      for (const address of [url, `${url}/`, `${url}/x`]) {
        const answer = await fetch(address, { method })
        expect(answer.status).toBe(405)
        expect(answer.headers.get('allow')).toBe('PUT')
      }
    }
  })
})
