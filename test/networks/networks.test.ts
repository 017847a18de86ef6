import { describe, expect, it } from 'vitest'
import {
  clientNetwork,
  findNetworkProblem,
  parseNetworks,
  unmapAddress,
} from '../../src/networks/networks.ts'

describe('networks', () => {
  it.each([
    ['10.0.0.0/8', '10.255.1.2', true],
    ['10.0.0.0/8', '11.0.0.1', false],
    ['10.0.0.0/8', '::ffff:10.1.2.3', true],
    ['10.0.0.0/8', '::ffff:0b01:0203', false],
    ['192.0.2.1', '192.0.2.1', true],
    ['192.0.2.1', '192.0.2.2', false],
    ['192.0.2.77/24', '192.0.2.1', true],
    ['0.0.0.0/0', '203.0.113.9', true],
    ['0.0.0.0/0', '2001:db8::1', false],
    ['::/0', '2001:db8::1', true],
    ['2001:db8::/32', '2001:DB8:0:1::7', true],
    ['2001:db8::/32', '2001:db9::7', false],
    ['2001:db8::1', '2001:db8::2', false],
    ['::/0', '10.1.2.3', true],
    ['::ffff:10.0.0.0/104', '10.1.2.3', true],
    ['10.0.0.0/8', '::10.1.2.3', false],
    ['::10.0.0.0/104', '10.1.2.3', false],
    ['fe80::/10', 'fe80::1%eth0', true],
    ['10.0.0.0/8', '', false],
    ['10.0.0.0/8', 'localhost', false],
    ['10.0.0.0/8', '10.0.0.1, 10.0.0.2', false],
  ])('%s has %s in it: %s', (network, address, within) => {
    const networks = parseNetworks([network])
    expect(networks?.has(address)).toBe(within)
  })

  it('have an address in them when one of them has', () => {
    const networks = parseNetworks(['10.0.0.0/8', '2001:db8::/32'])
    const within = (address: string) => networks?.has(address)
    expect(['10.1.1.1', '2001:db8::1', '192.0.2.1'].map(within)).toEqual([true, true, false])
  })

  it.each(['', '10.0.0.0/', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/8/8', '10.0.0.0/8 ', '10.0.0'])(
    'are not %j',
    (text) => {
      expect(parseNetworks([text])).toBeUndefined()
      expect(parseNetworks(['10.0.0.0/8', text])).toBeUndefined()
    },
  )

  it.each(['010.0.0.1', '0x0a.0.0.1', '2001:db8::/129', '2001:db8::g/32', 'example.org', '*'])(
    'are not %j',
    (text) => {
      expect(parseNetworks([text])).toBeUndefined()
    },
  )
})

describe('findNetworkProblem', () => {
  it('names the first text that is neither an address nor a network', () => {
    expect(findNetworkProblem(['10.0.0.0/8', '10.0.0.0/33', 'x'])).toBe(
      '"10.0.0.0/33" is not an address or a network such as 10.0.0.0/8',
    )
    expect(findNetworkProblem(['192.0.2.1', '2001:db8::/32'])).toBeUndefined()
    expect(findNetworkProblem([])).toBeUndefined()
  })
})

describe('unmapAddress', () => {
  it.each([
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::ffff:c000:201', '192.0.2.1'],
    ['192.0.2.1', '192.0.2.1'],
    ['2001:DB8::1', '2001:DB8::1'],
    ['::192.0.2.1', '::192.0.2.1'],
    ['', ''],
    ['localhost:80', 'localhost:80'],
  ])('%j → %j', (text, address) => {
    expect(unmapAddress(text)).toBe(address)
  })
})

describe('clientNetwork', () => {
  it.each([
    ['2001:db8:1:2:ffff::1', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::192.0.2.1', '2001:db8:1:2::/64'],
    ['::1', '0:0:0:0::/64'],
    ['192.0.2.1', '192.0.2.1'],
    ['unknown', 'unknown'],
  ])('%j → %j', (text, network) => {
    expect(clientNetwork(text)).toBe(network)
  })
})
