import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose'
import { Webhook as WebhookVerifier } from 'standardwebhooks'
import { type Received, type Receiver, startReceiver } from './receiver.ts'

/** The status of a receiver's response, and the action that the receiver would take. */
export type RuleResult = { readonly status: number; readonly action?: unknown }

/** The documented behavior of a receiver. */
export type ReceiverRule = (
  received: Received & { readonly method: string },
) => RuleResult | Promise<RuleResult>

/** Starts a receiver that follows a rule and records its actions. */
export async function startRuledReceiver(
  rule: ReceiverRule,
): Promise<Receiver & { readonly done: unknown[] }> {
  const done: unknown[] = []
  const receiver = await startReceiver(async (received, res) => {
    const verdict = await rule({ ...received, method: res.req.method ?? '' })
    if (verdict.action !== undefined) done.push(verdict.action)
    res.writeHead(verdict.status).end()
  })
  return Object.assign(receiver, { done })
}

type Json = Record<string, unknown>

function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json
  } catch {
    return undefined
  }
}

/** `<hash function>=<hexadecimal>`, compared as go-github does. */
function isBodySignature(value: unknown, body: string, token: string): boolean {
  const [, algorithm, hex] = /^(sha1|sha256|sha512)=([0-9a-f]+)$/.exec(String(value)) ?? []
  if (algorithm === undefined || hex === undefined) return false
  const right = createHmac(algorithm, token).update(body).digest()
  const given = Buffer.from(hex, 'hex')
  return given.length === right.length && timingSafeEqual(given, right)
}

const RECONCILES = 'reconciles'

/** The path of a Flux receiver: a hash of its token, name and namespace. */
export function fluxPath(token: string): string {
  return `/hook/${createHash('sha256').update(`${token}deployflux-system`).digest('hex')}`
}

/** Flux, Receiver of type `generic`: verifies the path only. */
export const fluxGeneric =
  (token: string): ReceiverRule =>
  ({ path }) =>
    path === fluxPath(token) ? { status: 200, action: RECONCILES } : { status: 404 }

/** Flux, type `generic-hmac`: X-Signature by the token as text. */
export const fluxHmac =
  (token: string): ReceiverRule =>
  ({ path, headers, body }) => {
    if (path !== fluxPath(token)) return { status: 404 }
    if (!isBodySignature(headers['x-signature'], body, token)) return { status: 400 }
    return { status: 200, action: RECONCILES }
  }

/** Flux, type `harbor`: Authorization is the token, byte by byte. */
export const fluxHarbor =
  (token: string): ReceiverRule =>
  ({ path, headers }) => {
    if (path !== fluxPath(token)) return { status: 404 }
    return headers.authorization === token ? { status: 200, action: RECONCILES } : { status: 400 }
  }

/** Flux, type `generic-oidc`: a token of the issuer for the audience, and a rule about its claims. */
export const fluxOidc =
  (issuerURL: string, audience: string, isWanted: (claims: Json) => boolean): ReceiverRule =>
  async ({ headers }) => {
    const token = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1]
    if (token === undefined || decodeJwt(token).iss !== issuerURL) return { status: 400 }
    try {
      const answer = await fetch(`${issuerURL}/.well-known/openid-configuration`)
      const discovery = (await answer.json()) as Json
      if (discovery.issuer !== issuerURL) return { status: 400 }
      const { payload } = await jwtVerify(
        token,
        createRemoteJWKSet(new URL(String(discovery.jwks_uri))),
        {
          issuer: issuerURL,
          audience,
          algorithms: discovery.id_token_signing_alg_values_supported as string[],
        },
      )
      return isWanted(payload) ? { status: 200, action: RECONCILES } : { status: 400 }
    } catch {
      return { status: 400 }
    }
  }

type DockerEvent = {
  action: string
  target: { repository: string; tag?: string; digest: string }
  request: { host: string }
}

/** Keel, `/v1/webhooks/registry`: pushes of tags, by the host of the request. */
export const keel: ReceiverRule = ({ method, path, body }) => {
  if (path !== '/v1/webhooks/registry') return { status: 404 }
  if (method !== 'POST') return { status: 405 }
  const events = parsed(body)?.events
  if (!Array.isArray(events)) return { status: 400 }
  const pushes = (events as DockerEvent[]).filter(
    ({ action, target }) => action === 'push' && (target.tag ?? '') !== '',
  )
  if (pushes.length === 0) return { status: 200 }
  const images = pushes.map(({ target, request }) => ({
    image: `${request.host}/${target.repository}`,
    tag: target.tag,
    digest: target.digest,
  }))
  return { status: 200, action: images }
}

/** Argo CD Image Updater, `/webhook`, type `cloudevents`. */
export const argoImageUpdater =
  (secret: string): ReceiverRule =>
  ({ method, path, headers, body }) => {
    const { pathname, searchParams } = new URL(path, 'http://updater.example')
    if (pathname !== '/webhook') return { status: 404 }
    const type = searchParams.get('type') || headers['x-registry-type']
    if (type !== 'cloudevents' || method !== 'POST') return { status: 400 }
    const contentType = headers['content-type'] ?? ''
    if (!/application\/(?:cloudevents\+)?json/.test(contentType)) return { status: 400 }
    if ((searchParams.get('secret') || headers['x-webhook-secret']) !== secret) {
      return { status: 400 }
    }
    const event = parsed(body) ?? {}
    if (!event.specversion || !/container|image/.test(String(event.type))) return { status: 400 }
    const data = event.data as Json
    const [, repository, tag] = /^([^:]*):(.*)$/.exec(String(event.subject)) ?? []
    const image = {
      registry: data.registryUrl ?? data.registry,
      repository: data.repositoryName ?? data.repository ?? repository,
      tag: data.imageTag ?? data.tag ?? tag,
      digest: data.imageDigest ?? data.digest,
    }
    if (!image.registry || !image.repository || !image.tag) return { status: 400 }
    return { status: 200, action: image }
  }

/** Argo Events, event source `webhook` with `authSecret`, and a sensor with filters of data: path and values. */
export const argoEvents =
  (token: string, filters: Readonly<Record<string, readonly string[]>> = {}): ReceiverRule =>
  ({ method, path, headers, body }) => {
    if (path !== '/images') return { status: 404 }
    if (headers.authorization !== `Bearer ${token}`) return { status: 401 }
    const event = parsed(body)
    if (method !== 'POST' || event === undefined) return { status: 400 }
    const valueAt = (keys: string) =>
      keys
        .split('.')
        .reduce<unknown>((value, key) => (value as Json | undefined)?.[key], { body: event })
    const isWanted = Object.entries(filters).every(([keys, values]) =>
      values.includes(String(valueAt(keys))),
    )
    return isWanted ? { status: 200, action: event } : { status: 200 }
  }

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** Portainer, `/api/stacks/webhooks/{id}`: the id is the secret. */
export const portainer =
  (id: string): ReceiverRule =>
  ({ method, path }) => {
    const given = /^\/api\/stacks\/webhooks\/([^/?]+)$/.exec(path)?.[1]
    if (given === undefined) return { status: 404 }
    if (method !== 'POST') return { status: 405 }
    if (!UUID.test(given)) return { status: 400 }
    return given === id ? { status: 202, action: 'redeploys' } : { status: 404 }
  }

/** True when the library of Standard Webhooks verifies the request. */
export function isVerified(secret: string, { headers, body }: Received): boolean {
  try {
    new WebhookVerifier(secret).verify(body, headers as Record<string, string>)
    return true
  } catch {
    return false
  }
}

/** A receiver that uses the library of Standard Webhooks. */
export const standardWebhooks =
  (secret: string): ReceiverRule =>
  (received) =>
    isVerified(secret, received) ? { status: 204, action: parsed(received.body) } : { status: 401 }
