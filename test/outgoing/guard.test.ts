import { expect, it } from 'vitest'
import { GuardedClient } from '../../src/outgoing/client.ts'
import { Guard, OutgoingRefusedError } from '../../src/outgoing/guard.ts'
import { LOOPBACK, outcome, serve } from './loopback-servers.ts'

/** IANA's registries of special addresses, and addresses that embed an internal one. */
const INTERNAL: readonly (readonly [string, ...string[]])[] = [
  ['unspecified', '0.0.0.0', '0.1.2.3', '::'],
  ['loopback', '127.0.0.1', '127.255.255.254', '::1'],
  ['private', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.0.1'],
  ['shared by a provider', '100.64.0.1', '100.127.255.255'],
  ['link-local', '169.254.0.1', '169.254.169.254', 'fe80::1', 'febf::1'],
  ['unique-local', 'fc00::1', 'fd00:ec2::254', 'fdff::1'],
  ['site-local of old', 'fec0::1'],
  ['multicast', '224.0.0.1', '239.255.255.250', 'ff02::1', 'ff0e::1'],
  ['broadcast', '255.255.255.255'],
  ['reserved', '192.0.0.1', '192.0.0.170', '240.0.0.1', '254.1.1.1', '4000::1', 'e000::1'],
  ['documentation', '192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff::1'],
  ['benchmarking', '198.18.0.1', '198.19.255.255', '2001:2::1'],
  ['for protocols', '192.88.99.1', '192.31.196.1', '192.175.48.1', '2001:1::1', '2001:20::1'],
  ['discarded', '100::1'],
  ['segment routing', '5f00::1'],
  ['IPv4 in IPv6', '::127.0.0.1', '::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:0:127.0.0.1'],
  ['NAT64', '64:ff9b::127.0.0.1', '64:ff9b::a9fe:a9fe', '64:ff9b::', '64:ff9b:1::1'],
  ['6to4', '2002:7f00:1::1', '2002:a00:1::', '2002:a9fe:a9fe::1'],
  ['ISATAP', '2606:4700::5efe:127.0.0.1', '2a00:1450::200:5efe:10.0.0.1', 'fe80::5efe:a00:1'],
  ['Teredo', '2001:0:7f00:1::1', '2001::1', '2001:0:4136:e378:8000:63bf:3fff:fdd2'],
]

const PUBLIC = [
  '1.1.1.1',
  '8.8.8.8',
  '172.32.0.1',
  '100.128.0.1',
  '2606:4700::1111',
  '2a00:1450::1',
  '2a00:1450::1:5efe:0:1',
]

const inUrl = (address: string) => (address.includes(':') ? `[${address}]` : address)

it.each(INTERNAL)(
  '%s addresses are refused, as a literal and as the address of a name',
  async (...row) => {
    const [, ...addresses] = row
    for (const address of addresses) {
      const guard = new Guard({ allowed: [] })
      expect(() => guard.parse(`https://${inUrl(address)}/`), address).toThrow(OutgoingRefusedError)
      const client = new GuardedClient({ allowed: [], resolve: async () => [address] })
      expect(await outcome(client, 'https://issuer.example/'), address).toMatchObject({
        kind: 'refused',
        message: expect.stringContaining('neither a public address'),
      })
    }
  },
)

it('public addresses are allowed, by https only', () => {
  for (const address of PUBLIC) {
    for (const allowed of [[], LOOPBACK]) {
      const guard = new Guard({ allowed })
      expect(guard.parse(`https://${inUrl(address)}:8443/`).port).toBe('8443')
      expect(() => guard.parse(`http://${inUrl(address)}/`)).toThrow('plain http')
      const name = new URL('http://issuer.example')
      expect(() => guard.permitted(name, [address])).toThrow('plain http')
    }
  }
})

it('other notations of an internal address are refused', () => {
  const guard = new Guard({ allowed: [] })
  for (const host of [
    '2130706433',
    '0x7f000001',
    '0x7f.1',
    '0177.0.0.1',
    '017700000001',
    '127.1',
    '127.0.1',
    '0',
    '0xa9fea9fe',
    '169.254.43518',
    '%31%32%37.0.0.1',
    '１２７.0.0.1',
    '127。0。0。1',
    '127.0.0.1.',
    '[::ffff:127.0.0.1]',
    '[0:0:0:0:0:ffff:7f00:0001]',
    '[::]',
    '[fe80::1%25eth0]',
    '[fe80::1%eth0]',
    '256.256.256.256',
    '1.2.3.4.5',
  ]) {
    for (const scheme of ['https', 'http']) {
      expect(() => guard.parse(`${scheme}://${host}/`), host).toThrow(OutgoingRefusedError)
    }
  }
})

it('a name that resolves to an address with a zone, or to no address, is refused', async () => {
  for (const address of [
    'fe80::1%eth0',
    '::1%1',
    '2606:4700::1111%eth0',
    'localhost',
    '',
    '8.8.8',
  ]) {
    const client = new GuardedClient({
      allowed: ['fe80::/10', '::/0', '0.0.0.0/0'],
      resolve: async () => [address],
    })
    expect((await outcome(client, 'https://issuer.example/')).kind, address).toBe('refused')
  }
})

it('a URL that is not a plain web address is refused, without its password in the message', async () => {
  const client = new GuardedClient({ allowed: LOOPBACK })
  for (const url of [
    '',
    'issuer.example',
    'https://',
    'https:///',
    'https://localhost./',
    'https://issuer.example./',
    'https://./',
    'https://user:hunter2@issuer.example/',
    'https://user@issuer.example/',
    'https://:hunter2@127.0.0.1/',
    'ftp://issuer.example/',
    'file:///etc/passwd',
    'data:application/json,{}',
    'javascript:alert(1)',
    'unix:///var/run/docker.sock',
    'https://issuer example/',
    `https://issuer.example/${'x'.repeat(2048)}`,
  ]) {
    const { kind, message } = await outcome(client, url)
    expect(kind, url).toBe('refused')
    expect(message).not.toContain('hunter2')
    expect(message).not.toContain('\n')
  }
})

it('a refusal names the problem and the setting for operators, in one line', async () => {
  const client = new GuardedClient({
    allowed: [],
    hint: 'ALLOWED may name it',
    resolve: async () => ['10.1.2.3'],
  })
  expect((await outcome(client, 'https://issuer.example/a?b=c')).message).toBe(
    'https://issuer.example resolves to 10.1.2.3, which is neither a public address nor in an allowed network; ALLOWED may name it',
  )
  expect((await outcome(client, 'https://127.0.0.1:4/')).message).toBe(
    'https://127.0.0.1:4 is neither a public address nor in an allowed network; ALLOWED may name it',
  )
  expect((await outcome(client, 'http://issuer.example/')).message).toContain('use https')
})

it('addresses of an allowed network are reached, also by http, and no others', async () => {
  const server = await serve((_, response) => response.end('here'))
  const names: Record<string, string[]> = {
    'inside.example': ['127.0.0.1'],
    'outside.example': ['127.0.0.2'],
  }
  for (const allowed of [['127.0.0.1'], ['127.0.0.1/32'], ['10.0.0.0/8', '127.0.0.0/31']]) {
    const client = new GuardedClient({ allowed, resolve: async (name) => names[name] ?? [] })
    for (const host of ['127.0.0.1', 'inside.example', '2130706433']) {
      const answer = await client.request(`http://${host}:${server.port}/`)
      expect(answer).toMatchObject({ status: 200, truncated: false })
      expect(String(answer.body)).toBe('here')
    }
    for (const host of ['127.0.0.2', 'outside.example', '[::1]', '[::ffff:127.0.0.1]']) {
      expect((await outcome(client, `http://${host}:${server.port}/`)).kind, host).toBe('refused')
    }
  }
  await server.close()
})

it('only the allowed ones of several addresses are connected to', async () => {
  const inside = await serve((_, response) => response.end('inside'))
  const outside = await serve((_, response) => response.end('outside'), '127.0.0.2', inside.port)
  for (const addresses of [
    ['127.0.0.2', '127.0.0.1'],
    ['127.0.0.1', '127.0.0.2'],
    ['::1', '10.0.0.1', '127.0.0.2', '127.0.0.1'],
  ]) {
    const client = new GuardedClient({ allowed: ['127.0.0.1'], resolve: async () => addresses })
    const answer = await client.request(`http://issuer.example:${inside.port}/`)
    expect(String(answer.body)).toBe('inside')
  }
  expect(outside.connections()).toBe(0)
  await Promise.all([inside.close(), outside.close()])
})

it('a name whose address changes between look-ups is checked at each connection', async () => {
  const inside = await serve((_, response) => response.end('inside'))
  const outside = await serve((_, response) => response.end('outside'), '127.0.0.2', inside.port)
  let lookups = 0
  const client = new GuardedClient({
    allowed: ['127.0.0.1'],
    resolve: async () => {
      lookups += 1
      return [lookups % 2 === 1 ? '127.0.0.1' : '127.0.0.2']
    },
  })
  const url = `http://issuer.example:${inside.port}/`
  client.assertUrlAllowed(url)
  expect(lookups).toBe(0)
  for (const kind of ['answered', 'refused', 'answered', 'refused']) {
    expect((await outcome(client, url)).kind).toBe(kind)
  }
  // One look-up per connection, so the address cannot change between the check and the connection.
  expect(lookups).toBe(4)
  expect(outside.connections()).toBe(0)
  await Promise.all([inside.close(), outside.close()])
})

it('localhost is refused', async () => {
  const server = await serve((_, response) => response.end())
  const client = new GuardedClient({ allowed: ['192.0.2.0/24'] })
  for (const url of [`http://localhost:${server.port}/`, `https://localhost:${server.port}/`]) {
    expect((await outcome(client, url)).kind).toBe('refused')
  }
  expect(server.connections()).toBe(0)
  await server.close()
})
