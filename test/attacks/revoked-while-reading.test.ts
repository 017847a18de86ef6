import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sql } from '../auth/credentials-client.ts'
import { digestOf } from '../support/digest.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { credentialWithOrigin, revokeUnnoticed } from './unnoticed-revocation.ts'

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

describe('while the body of a push is read', () => {
  const held = (revoke: () => Promise<void>) =>
    new ReadableStream<Uint8Array>({
      async start(controller) {
        controller.enqueue(Buffer.from('first '))
        await new Promise((resolve) => setTimeout(resolve, 100))
        await revoke()
        controller.enqueue(Buffer.from('last'))
        controller.close()
      },
    })
  const stream = { duplex: 'half' } as RequestInit

  it('the revocation of its credential refuses the bytes, and keeps none', async () => {
    for (const kind of ['PATCH', 'PUT', 'POST', 'form', 'url']) {
      const { authorization, origin } = await credentialWithOrigin(registry, {
        repositories: [`mid/${kind.toLowerCase()}`],
        actions: ['push', 'pull'],
      })
      const base = `/v2/mid/${kind.toLowerCase()}`
      // Made just before its request: its revocation runs from then.
      const body = () => held(() => revokeUnnoticed(registry, origin))
      const headers = { authorization, 'content-type': 'application/octet-stream' }
      const digest = digestOf('first last')
      let path = `${base}/blobs/uploads/?digest=${digest}`
      let method = 'POST'
      if (kind === 'PATCH' || kind === 'PUT') {
        const start = await registry.anonymous(`${base}/blobs/uploads/`, {
          method: 'POST',
          headers,
        })
        path = `${start.headers.get('location')}${kind === 'PUT' ? `?digest=${digest}` : ''}`
        method = kind
      }
      if (kind === 'form') {
        path = '/api/v1/repositories/mid/form/images?tag=v1'
        const open =
          '--b\r\nContent-Disposition: form-data; name="kernel"; filename="k"\r\n\r\nkernel\r\n--b--\r\n'
        const form = new ReadableStream<Uint8Array>({
          async start(controller) {
            controller.enqueue(Buffer.from(open.slice(0, 80)))
            await revokeUnnoticed(registry, origin)
            controller.enqueue(Buffer.from(open.slice(80)))
            controller.close()
          },
        })
        const answer = await registry.anonymous(path, {
          method: 'POST',
          headers: { authorization, 'content-type': 'multipart/form-data; boundary=b' },
          body: form,
          ...stream,
        })
        const text = await answer.text()
        expect([kind, answer.status, text]).toEqual([kind, 401, expect.any(String)])
        continue
      }
      if (kind === 'url') {
        const created = await registry.anonymous(
          '/api/v1/repositories/mid/url/tags/v1/upload-urls',
          {
            method: 'POST',
            headers: { authorization },
          },
        )
        path = new URL(((await created.json()) as { url: string }).url).pathname
        const answer = await registry.anonymous(path, {
          method: 'PUT',
          body: body(),
          ...stream,
        })
        expect([kind, answer.status]).toEqual([kind, 410])
        continue
      }
      const answer = await registry.anonymous(path, {
        method,
        headers,
        body: body(),
        ...stream,
      })
      expect([kind, answer.status]).toEqual([kind, 401])
      const blob = await registry.request(`${base}/blobs/${digest}`)
      expect([kind, blob.status]).toEqual([kind, 404])
    }
    const left = `select r.name from repository_blobs b join repositories r on r.id = b.repository_id
                   where r.name like 'mid/%'`
    expect(await sql(registry, left)).toEqual([])
  })

  it('a revocation waits for the commit of a write that was faster', async () => {
    const { origin } = await credentialWithOrigin(registry, {
      repositories: ['w/**'],
      actions: ['push'],
    })
    const revoke = `insert into revocations (subject, expires_at) values ($1, now() + interval '1 day')`
    const { Client } = (await import('pg')).default
    const [writer, revoker] = [new Client(registry.databaseUrl), new Client(registry.databaseUrl)]
    await Promise.all([writer.connect(), revoker.connect()])
    try {
      await writer.query('begin')
      await writer.query('select assert_unrevoked($1, null, null)', [origin])
      let isRevoked = false
      const revoking = revoker.query(revoke, [origin]).then(() => {
        isRevoked = true
      })
      await expect
        .poll(async () =>
          sql(registry, `select 1 from pg_locks where locktype = 'advisory' and not granted`),
        )
        .toHaveLength(1)
      expect(isRevoked).toBe(false)
      await writer.query('commit')
      await revoking
      await expect(
        writer.query('select assert_unrevoked($1, null, null)', [origin]),
      ).rejects.toThrow('revoked')
    } finally {
      await Promise.all([writer.end(), revoker.end()])
    }
  })
})

it('a stream of events ends within seconds when its credential is revoked', async () => {
  const { name, authorization } = await credentialWithOrigin(registry, {
    repositories: ['a/**'],
    actions: ['pull'],
  })
  const answer = await registry.anonymous('/api/v1/events', {
    headers: { authorization, accept: 'text/event-stream' },
  })
  expect(answer.status).toBe(200)
  await registry.request(`/api/v1/credentials/${name}`, { method: 'DELETE' })
  const from = Date.now()
  for await (const _ of answer.body ?? []) {
    // Read to its end.
  }
  expect(Date.now() - from).toBeLessThan(8_000)
}, 20_000)

it('a credential may revoke itself', async () => {
  const { name, authorization } = await credentialWithOrigin(registry, { kind: 'admin' })
  const revoke = () =>
    registry.anonymous(`/api/v1/credentials/${name}`, {
      method: 'DELETE',
      headers: { authorization },
    })
  expect((await revoke()).status).toBe(204)
  expect((await revoke()).status).toBe(401)
})
