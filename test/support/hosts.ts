import { createHash, generateKeyPairSync, type KeyObject, randomUUID, sign } from 'node:crypto'
import { expect } from 'vitest'
import type { TestRegistry } from './registry.ts'

/** The key of a host, as openssl makes it. */
export type TestHostKey = {
  readonly jwk: Record<string, string>
  readonly thumbprint: string
  readonly algorithm: 'EdDSA' | 'ES256'
  readonly privateKey: KeyObject
}

/** A host that enrolled with a key of its own. */
export type TestHost = {
  readonly id: number
  readonly name: string
  readonly key: TestHostKey
  /** Returns its access token, the same one for some minutes. */
  token(): Promise<string>
  /** Sends a request with its token. */
  request(path: string, init?: RequestInit): Promise<Response>
}

export type NewTestHost = {
  name?: string
  repositories?: string[]
  networks?: string[]
  labels?: Record<string, string>
}

/** Makes a key of Ed25519, or of P-256. */
export function makeHostKey(algorithm: 'EdDSA' | 'ES256' = 'EdDSA'): TestHostKey {
  const { publicKey, privateKey } =
    algorithm === 'EdDSA'
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { kty = '', crv = '', x = '', y } = publicKey.export({ format: 'jwk' })
  const jwk = { crv, kty, x, ...(y === undefined ? {} : { y }) }
  const thumbprint = createHash('sha256').update(JSON.stringify(jwk)).digest('base64url')
  return { jwk, thumbprint, algorithm, privateKey }
}

const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** Signs a JWT with the key. */
export function signJwt(key: TestHostKey, header: object, claims: object): string {
  const signed = `${part({ alg: key.algorithm, kid: key.thumbprint, ...header })}.${part(claims)}`
  const signature =
    key.algorithm === 'EdDSA'
      ? sign(null, Buffer.from(signed), key.privateKey)
      : sign('sha256', Buffer.from(signed), { key: key.privateKey, dsaEncoding: 'ieee-p1363' })
  return `${signed}.${signature.toString('base64url')}`
}

/** Returns an assertion by the key for this audience. `claims` and `header` replace what it usually has. */
export function assertionOf(
  key: TestHostKey,
  audience: string,
  claims: object = {},
  header: object = {},
): string {
  const now = Math.floor(Date.now() / 1000)
  return signJwt(key, header, {
    iss: key.thumbprint,
    sub: key.thumbprint,
    aud: audience,
    iat: now,
    exp: now + 120,
    jti: randomUUID(),
    ...claims,
  })
}

/** Returns the audience of assertions: the issuer of the registry. */
export async function issuerOf(registry: Pick<TestRegistry, 'anonymous'>): Promise<string> {
  const answer = await registry.anonymous('/.well-known/openid-configuration')
  return ((await answer.json()) as { issuer: string }).issuer
}

/** Sends a form, as an agent does with curl. */
export function postForm(
  registry: Pick<TestRegistry, 'anonymous'>,
  path: string,
  fields: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<Response> {
  return registry.anonymous(path, { method: 'POST', headers, body: new URLSearchParams(fields) })
}

/** Returns the fields of an enrolment or a rotation with this key and its proof. */
export function keyFields(
  key: TestHostKey,
  audience: string,
  more: Record<string, string> = {},
): Record<string, string> & { proof: string } {
  return { jwk: JSON.stringify(key.jwk), proof: assertionOf(key, audience), ...more }
}

export const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

let names = 0

/** Creates a code as the administrator. */
export async function makeCode(
  registry: Pick<TestRegistry, 'request'>,
  { name, repositories = ['**'], networks, labels }: NewTestHost & { name: string },
): Promise<string> {
  const made = await registry.request('/api/v1/enrolments', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name, repositories, networks, labels }),
  })
  expect(made.status).toBe(201)
  return ((await made.json()) as { code: string }).code
}

/** Enrols a host with a code. It may follow and pull all repositories, unless `repositories` says less. */
export async function enrolHost(
  registry: Pick<TestRegistry, 'request' | 'anonymous'>,
  wanted: NewTestHost = {},
): Promise<TestHost> {
  names += 1
  const name = wanted.name ?? `host-${names}`
  const audience = await issuerOf(registry)
  const key = makeHostKey()
  const code = await makeCode(registry, { ...wanted, name })
  const enrolled = await postForm(registry, '/api/v1/hosts/enrol', {
    code,
    name,
    jwk: JSON.stringify(key.jwk),
    proof: assertionOf(key, audience),
  })
  expect(enrolled.status).toBe(201)
  let minted: Promise<string> | undefined
  const token = () => {
    minted ??= mintToken(registry, key, audience)
    return minted
  }
  const { origin } = JSON.parse(
    Buffer.from((await token()).split('.')[1] ?? '', 'base64url').toString(),
  ) as { origin: string }
  return {
    id: Number(origin.replace('host:', '')),
    name,
    key,
    token,
    async request(path, init = {}) {
      const headers = { ...(init.headers as Record<string, string> | undefined) }
      return registry.anonymous(path, {
        ...init,
        headers: { ...headers, authorization: `Bearer ${await token()}` },
      })
    },
  }
}

async function mintToken(
  registry: Pick<TestRegistry, 'anonymous'>,
  key: TestHostKey,
  audience: string,
): Promise<string> {
  const answer = await postForm(registry, '/token', {
    grant_type: JWT_BEARER,
    assertion: assertionOf(key, audience),
  })
  expect(answer.status).toBe(200)
  return ((await answer.json()) as { access_token: string }).access_token
}
