import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { WaitingHosts } from '../../src/deployments/waiting-hosts.ts'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const PER_ADDRESS = 4
const FEED_CLIENTS = 1
/** Far more than connections of one address. */
const HOSTS = 12
const PROXY = '127.0.0.9'

let registry: TestRegistry
let hosts: TestHost[]
const sockets: Socket[] = []

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_CONNECTIONS_PER_ADDRESS: String(PER_ADDRESS),
    ROOKERY_FEED_CLIENTS_PER_ADDRESS: String(FEED_CLIENTS),
    ROOKERY_TRUSTED_PROXIES: PROXY,
  })
  hosts = []
  for (let count = 0; count < HOSTS; count += 1) hosts.push(await enrolHost(registry))
}, 60_000)
afterAll(async () => {
  for (const socket of sockets) socket.destroy()
  await registry.close()
})

/** Begins a request on a connection of its own. Returns a function that reads the status of its answer, undefined before it. */
async function begin(localAddress: string, path: string, headers: readonly string[]) {
  const { hostname, port } = new URL(registry.url)
  const socket = connect({ host: hostname, port: Number(port), localAddress })
  socket.on('error', () => {})
  sockets.push(socket)
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk.toString('latin1')
  })
  const lines = [`GET ${path} HTTP/1.1`, `Host: ${hostname}`, ...headers]
  socket.write(`${lines.join('\r\n')}\r\n\r\n`)
  return () => /^HTTP\/1.1 (\d+)/.exec(text)?.[1]
}

async function waits(host: TestHost, localAddress: string, ...headers: string[]) {
  const authorization = `Authorization: Bearer ${await host.token()}`
  const { headers: known } = await host.request(`/api/v1/hosts/${host.name}/desired`)
  const condition = `If-None-Match: ${known.get('etag')}`
  return begin(localAddress, `/api/v1/hosts/${host.name}/desired?wait=30`, [
    ...[authorization, condition, ...headers],
  ])
}

it.each([
  ['directly', '127.0.0.3', []],
  ['through a proxy', PROXY, ['X-Forwarded-For: 192.0.2.7']],
] as const)(
  'hosts that wait %s do not count among the requests of their address',
  async (_, address, headers) => {
    const waiting = []
    for (const host of hosts) {
      const status = await waits(host, address, ...headers)
      // The next host comes when this one waits.
      await new Promise((resolve) => setTimeout(resolve, 100))
      waiting.push(status)
    }
    expect(waiting.map((status) => status())).toEqual(hosts.map(() => undefined))
    const other = await begin(address, '/v2/', headers)
    await expect.poll(other).toBe('401')
  },
)

it('connections without a token have the limit of their address also when they ask as a host', async () => {
  const { hostname, port } = new URL(registry.url)
  const path = `/api/v1/hosts/${hosts[0]?.name}/desired?wait=30`
  const statuses: (() => string)[] = []
  for (let count = 0; count <= PER_ADDRESS + FEED_CLIENTS; count += 1) {
    // The head of the request never ends.
    const socket = connect({ host: hostname, port: Number(port), localAddress: '127.0.0.4' })
    socket.on('error', () => {})
    sockets.push(socket)
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
    })
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${hostname}\r\n`)
    statuses.push(() => text.slice(9, 12))
  }
  await expect.poll(() => statuses.map((status) => status()).filter(Boolean)).toEqual(['429'])
})

it('a host that asks again takes no other place, and one too many is sent to try again', async () => {
  const waiting = new WaitingHosts(2)
  const { signal } = new AbortController()
  const wait = (hostId: number) => waiting.enter(hostId).wait('', 5_000, signal)
  const earlier = waiting.enter(1)
  const first = earlier.wait('', 5_000, signal)
  const second = wait(2)
  const again = wait(1)
  expect(await first).toBe('replaced')
  expect(await earlier.wait('', 5_000, signal)).toBe('replaced')
  earlier.leave()
  expect(waiting.count).toBe(2)
  expect(() => waiting.enter(3)).toThrowError('2 hosts already wait at this server')
  waiting.wake(2)
  expect(await second).toBe('host')
  waiting.close()
  expect(await again).toBe('closed')
  expect(await wait(1)).toBe('closed')
})
