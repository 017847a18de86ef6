import { type AddressInfo, createServer } from 'node:net'
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from 'jose'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { IdentityTokenMinter } from '../../src/auth/identity-token-minter.ts'
import { openMasterKey } from '../../src/auth/master-key.ts'
import { rotateSigningKeys } from '../../src/auth/signing-keys.ts'
import { parseConfig } from '../../src/config/config.ts'
import { masterKeyPath } from '../../src/server/signing-keys.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, bearer, claimsOf, openTokenMinter } from './credentials-client.ts'

const AUDIENCE = 'https://deploy.example'
const ACTOR = {
  name: 'test',
  origin: null,
  tokenId: null,
  keyId: null,
  address: null,
  requestId: null,
}

let registry: TestRegistry
let base: string
let mint: Awaited<ReturnType<typeof openTokenMinter>>

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
  mint = await openTokenMinter(registry)
})

afterAll(async () => {
  await mint.close()
  await registry.close()
})

const tokensAt = (now?: () => number) => new IdentityTokenMinter(mint.keys, mint.issuer, now)

/** Verifies a token as a receiver does that has only the registry's URL. */
async function verifiedAt(url: string, token: string, audience: string) {
  const answer = await fetch(`${url}/.well-known/openid-configuration`)
  const discovery = (await answer.json()) as {
    issuer: string
    jwks_uri: string
    id_token_signing_alg_values_supported: string[]
  }
  expect(discovery.issuer).toBe(url)
  const keys = createRemoteJWKSet(new URL(discovery.jwks_uri))
  const algorithms = discovery.id_token_signing_alg_values_supported
  return jwtVerify(token, keys, { issuer: url, audience, algorithms })
}

it('a receiver verifies its token with nothing but the URL of the registry', async () => {
  const token = await tokensAt().mint(AUDIENCE, 'webhook:deploy')
  const { payload, protectedHeader } = await verifiedAt(base, token, AUDIENCE)
  expect(protectedHeader).toMatchObject({ alg: 'ES256', typ: 'JWT' })
  expect(payload).toMatchObject({ iss: base, aud: AUDIENCE, sub: 'webhook:deploy' })
  const { iat = 0, nbf, exp } = payload
  expect(Math.abs(iat - Date.now() / 1000)).toBeLessThan(10)
  expect({ nbf, exp }).toEqual({ nbf: iat, exp: iat + 300 })
  await expect(verifiedAt(base, token, 'https://other.example')).rejects.toThrow('"aud"')
})

it('the registry itself does not accept its identity tokens', async () => {
  const { issuer, tokens } = mint
  for (const audience of [AUDIENCE, issuer.service, issuer.url]) {
    for (const subject of ['webhook:deploy', 'admin']) {
      const token = await tokensAt().mint(audience, subject)
      await expect(tokens.verify(token)).rejects.toMatchObject({ name: 'InvalidTokenError' })
      for (const authorization of [bearer(token), basic('token', token)]) {
        const answer = await registry.anonymous('/v2/', { headers: { authorization } })
        expect(answer.status).toBe(401)
      }
    }
  }
})

it('a token is the same for some minutes, and always valid for two more', async () => {
  let now = Date.now()
  const identityTokens = tokensAt(() => now)
  const first = await identityTokens.mint(AUDIENCE, 'webhook:deploy')
  const end = claimsOf(first).exp * 1000
  const seen = new Set<string>()
  for (let seconds = 0; seconds < 900; seconds += 10) {
    const token = await identityTokens.mint(AUDIENCE, 'webhook:deploy')
    expect(claimsOf(token).exp * 1000 - now).toBeGreaterThan(119_000)
    seen.add(token)
    now += 10_000
  }
  expect(now).toBeGreaterThan(end)
  expect(seen.has(first)).toBe(true)
  expect(seen.size).toBe(5)
  expect(new Set([...seen].map((token) => claimsOf(token).jti)).size).toBe(5)
})

it('each audience and each subject has a token of its own', async () => {
  const identityTokens = tokensAt()
  // Concatenated, these pairs would be equal.
  const asked = [
    ['a', 'b c'],
    ['a b', 'c'],
    ['a', 'b'],
    ['b', 'a'],
  ] as const
  for (const [audience, subject] of [...asked, ...asked]) {
    const { aud, sub } = claimsOf(await identityTokens.mint(audience, subject))
    expect([aud, sub]).toEqual([audience, subject])
  }
})

it('a new signing key signs at once', async () => {
  const identityTokens = tokensAt()
  const before = await identityTokens.mint(AUDIENCE, 'webhook:deploy')
  const config = parseConfig(registry.settings)
  const masterKey = await openMasterKey(masterKeyPath(registry.folder, config), false)
  const kid = await rotateSigningKeys(mint.db, masterKey, 'EdDSA', true, ACTOR)
  await mint.keys.refresh()
  const after = await identityTokens.mint(AUDIENCE, 'webhook:deploy')
  expect(decodeProtectedHeader(after)).toEqual({ alg: 'EdDSA', kid, typ: 'JWT' })
  await expect
    .poll(() => verifiedAt(base, after, AUDIENCE).catch(String), { timeout: 10_000 })
    .toMatchObject({ payload: { sub: 'webhook:deploy' } })
  await expect(verifiedAt(base, before, AUDIENCE)).rejects.toThrow('no applicable key')
})
