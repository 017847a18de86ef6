import { randomUUID } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose'
import { serve } from '../outgoing/loopback-servers.ts'

export const AUDIENCE = 'https://registry.example'
export const SUBJECT = 'repo:octo/kernel:ref:refs/heads/main'

type KeyPair = Awaited<ReturnType<typeof generateKeyPair>>
export type IssuerKey = KeyPair & { readonly kid: string; readonly alg: string; readonly jwk: JWK }

/** A CI system that publishes its keys over HTTP on this machine and signs tokens. */
export type TestIssuer = {
  readonly url: string
  /** The key that signs. */
  readonly key: IssuerKey
  /** The paths of the requests so far. */
  readonly requests: string[]
  /** The published keys, which tests change. */
  keys: JWK[]
  discovery: Record<string, unknown>
  /** Responds in place of the documents, when it is set. */
  answer: RequestListener | undefined
  /** Returns a token with changed claims and header. `undefined` removes a claim. */
  token(
    claims?: Record<string, unknown>,
    header?: Record<string, unknown>,
    key?: IssuerKey,
  ): Promise<string>
  close(): Promise<void>
}

export async function newKey(kid: string = randomUUID(), alg = 'RS256'): Promise<IssuerKey> {
  const pair = await generateKeyPair(alg, { extractable: true })
  const jwk = { ...(await exportJWK(pair.publicKey)), kid, alg, use: 'sig' }
  return { ...pair, kid, alg, jwk }
}

export async function startIssuer(path = ''): Promise<TestIssuer> {
  const key = await newKey('first')
  const requests: string[] = []
  const server = await serve((request, response) => {
    requests.push(request.url ?? '')
    if (issuer.answer !== undefined) return issuer.answer(request, response)
    const documents: Record<string, unknown> = {
      [`${path.replace(/\/$/, '')}/.well-known/openid-configuration`]: issuer.discovery,
      '/keys': { keys: issuer.keys },
    }
    const document = documents[request.url ?? '']
    response.statusCode = document === undefined ? 404 : 200
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(document ?? {}))
  })
  const origin = `http://127.0.0.1:${server.port}`
  const url = `${origin}${path}`
  const issuer: TestIssuer = {
    url,
    key,
    requests,
    keys: [key.jwk],
    discovery: { issuer: url, jwks_uri: `${origin}/keys` },
    answer: undefined,
    token(claims = {}, header = {}, signer = key) {
      return new SignJWT(claimsOf(url, claims))
        .setProtectedHeader({ alg: signer.alg, kid: signer.kid, typ: 'JWT', ...header })
        .sign(signer.privateKey)
    },
    close: () => server.close(),
  }
  return issuer
}

/** Returns claims similar to those of a GitHub job. */
export function claimsOf(iss: string, changes: Record<string, unknown> = {}): JWTPayload {
  const now = Math.floor(Date.now() / 1000)
  return {
    iss,
    sub: SUBJECT,
    aud: AUDIENCE,
    jti: randomUUID(),
    iat: now - 5,
    nbf: now - 5,
    exp: now + 300,
    repository: 'octo/kernel',
    repository_owner: 'octo',
    ref: 'refs/heads/main',
    ref_protected: true,
    run_attempt: 2,
    groups: ['builders', 'octo/admins', 7],
    'https://example.org/claim': 'named by a URL',
    'kubernetes.io': { namespace: 'ci', pod: { 'a/b': 'slash', 'a~b': 'tilde' }, list: ['x', 'y'] },
    nothing: null,
    ...changes,
  }
}

/** Returns a token that an attacker writes without a key. */
export function unsigned(header: object, claims: object, signature = ''): string {
  const encoded = [header, claims].map((part) =>
    Buffer.from(JSON.stringify(part)).toString('base64url'),
  )
  return [...encoded, signature].join('.')
}
