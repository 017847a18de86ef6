/** The hosts of deployments.ts, in a process of their own. */
import { randomUUID } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { forEachConcurrent } from '../src/async/for-each.ts'
import { type HostConnection, SimulatedHost } from '../test/support/simulated-hosts.ts'

/** An order of the benchmark. Every order is answered with a FleetReport. */
export type FleetOrder =
  | {
      order: 'start'
      origin: string
      /** The login of an administrator, who creates the codes. */
      authorization: string
      repository: string
      prefix: string
      count: number
    }
  | { order: 'report'; kernel: string }

/** The times at which the hosts ran a kernel: milliseconds since 1970. */
export type FleetReport = { times: number[]; refusals: string[] }

const ENROLMENTS_AT_ONCE = 8
const hosts: SimulatedHost[] = []

/** Enrols a host, and returns its connection with a token. */
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
  const grant = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
  const body = new URLSearchParams({ grant_type: grant, assertion: await sign() })
  const token = String((await post(`${origin}/token`, { body })).access_token)
  const request: HostConnection['request'] = (path, init) =>
    fetch(origin + path, {
      ...init,
      headers: { ...init?.headers, authorization: `Bearer ${token}` },
    })
  return { name, request }
}

async function post(url: string, init: RequestInit): Promise<Record<string, unknown>> {
  const answer = await fetch(url, { method: 'POST', ...init })
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`)
  return (await answer.json()) as Record<string, unknown>
}

async function obey(order: FleetOrder): Promise<FleetReport> {
  if (order.order === 'start') {
    const { origin, authorization, repository, prefix, count } = order
    const names = Array.from({ length: count }, (_, index) => `${prefix}-${index}`)
    await forEachConcurrent(names, ENROLMENTS_AT_ONCE, async (name) => {
      const connection = await enrol(origin, authorization, name, repository)
      const host = new SimulatedHost(connection, [{ name: 'www', repository, tag: 'live' }])
      await host.start()
      hosts.push(host)
    })
    return { times: [], refusals: [] }
  }
  const all = hosts.flatMap(({ happened }) => happened)
  return {
    times: all
      .filter(({ kernel, state }) => kernel === order.kernel && state === 'started')
      .map(({ at }) => at),
    refusals: hosts.flatMap(({ refusals }) => refusals),
  }
}

process.on('message', async (order: FleetOrder) => {
  process.send?.(await obey(order))
})
