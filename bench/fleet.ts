/** The hosts of deployments.ts, in a process of their own. */
import { randomUUID } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { forEachConcurrent } from '../src/async/for-each.ts'
import { type Delays, WaitingHost } from './waiting-host.ts'

/** An order of the benchmark. Every order is answered with a FleetReport. */
export type FleetOrder =
  | {
      order: 'start'
      origin: string
      /** The login of an administrator, who creates the codes. */
      authorization: string
      repository: string
      prefix: string
      /** The numbers of the hosts: from `from` to below `to`. */
      from: number
      to: number
      delays: Delays
    }
  | { order: 'report'; kernel: string }

/** The times at which the hosts received a kernel, and at which it was healthy: milliseconds since 1970. */
export type FleetReport = { answers: number[]; healthy: number[]; refusals: string[] }

const ENROLMENTS_AT_ONCE = 8
const GRANT = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const hosts: WaitingHost[] = []

/** Enrols a host, and returns its token. */
async function enrol(origin: string, authorization: string, name: string, repository: string) {
  const { publicKey, privateKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519' })
  const jwk = await exportJWK(publicKey)
  const kid = await calculateJwkThumbprint(jwk)
  const metadata = await fetch(`${origin}/.well-known/openid-configuration`)
  const { issuer } = (await metadata.json()) as { issuer: string }
  const sign = () =>
    new SignJWT({ iss: kid, sub: kid, aud: issuer, jti: randomUUID() })
      .setProtectedHeader({ alg: 'EdDSA', kid })
      .setIssuedAt()
      .setExpirationTime('2m')
      .sign(privateKey)
  const created = await post(`${origin}/api/v1/enrolments`, {
    headers: { authorization, 'content-type': 'application/json' },
    body: JSON.stringify({ name, repositories: [repository] }),
  })
  const proof = await sign()
  const code = String(created.code)
  await post(`${origin}/api/v1/hosts/enrol`, {
    body: new URLSearchParams({ code, name, jwk: JSON.stringify(jwk), proof }),
  })
  const body = new URLSearchParams({ grant_type: GRANT, assertion: await sign() })
  return String((await post(`${origin}/token`, { body })).access_token)
}

async function post(url: string, init: RequestInit): Promise<Record<string, unknown>> {
  const answer = await fetch(url, { method: 'POST', ...init })
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`)
  return (await answer.json()) as Record<string, unknown>
}

async function obey(order: FleetOrder): Promise<FleetReport> {
  if (order.order === 'start') {
    const { origin, authorization, repository, prefix, from, to, delays } = order
    const names = Array.from({ length: to - from }, (_, index) => `${prefix}-${from + index}`)
    await forEachConcurrent(names, ENROLMENTS_AT_ONCE, async (name) => {
      const token = await enrol(origin, authorization, name, repository)
      const host = new WaitingHost(origin, { name, token, repository }, delays)
      await host.start()
      hosts.push(host)
    })
    return { answers: [], healthy: [], refusals: [] }
  }
  const updates = hosts.flatMap(({ updates }) => updates.get(order.kernel) ?? [])
  return {
    answers: updates.map(({ answeredAt }) => answeredAt),
    healthy: updates.flatMap(({ healthyAt }) => healthyAt ?? []),
    refusals: hosts.flatMap(({ refusals }) => refusals.splice(0)),
  }
}

process.on('message', (order: FleetOrder) => {
  obey(order).then(
    (report) => process.send?.(report),
    (error) => {
      console.error(error)
      process.exit(1)
    },
  )
})
process.on('disconnect', () => process.exit(0))
