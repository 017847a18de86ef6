import { type AddressInfo, createServer } from 'node:net'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, requestToken } from './credentials-client.ts'

let registry: TestRegistry
let base: string

async function findFreePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

beforeAll(async () => {
  const port = await findFreePort()
  base = `http://127.0.0.1:${port}`
  registry = await startRegistry({
    ROOKERY_LISTEN: `127.0.0.1:${port}`,
    ROOKERY_PUBLIC_URL: base,
  })
})

afterAll(() => registry.close())

it('a verifier needs only the URL of the registry', async () => {
  const token = await requestToken(
    registry,
    basic('admin', registry.password),
    'repository:a/b:pull',
  )
  const answer = await fetch(`${base}/.well-known/openid-configuration`)
  const discovery = (await answer.json()) as { issuer: string; jwks_uri: string }
  expect(discovery.issuer).toBe(base)
  const { payload, protectedHeader } = await jwtVerify(
    token,
    createRemoteJWKSet(new URL(discovery.jwks_uri)),
    { issuer: base, audience: new URL(base).host, typ: 'at+jwt' },
  )
  expect(payload).toMatchObject({
    sub: 'admin',
    access: [{ type: 'repository', name: 'a/b', actions: ['pull'] }],
  })
  expect(protectedHeader.alg).toBe('ES256')
})

it('keys and discovery may be cached for five minutes, and are not sent again unchanged', async () => {
  for (const path of ['/.well-known/jwks.json', '/.well-known/openid-configuration']) {
    const answer = await registry.anonymous(path)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('cache-control')).toBe('public, max-age=300')
    expect(await answer.text()).not.toMatch(/"d":/)
    const tag = answer.headers.get('etag') ?? ''
    const again = await registry.anonymous(path, { headers: { 'if-none-match': tag } })
    expect(again.status).toBe(304)
  }
})

it('a challenge names the public URL of the registry', async () => {
  const answer = await registry.anonymous('/v2/', { headers: { host: 'evil.example' } })
  const challenge = `Bearer realm="${base}/token",service="${new URL(base).host}"`
  expect(answer.headers.get('www-authenticate')).toBe(challenge)
})
