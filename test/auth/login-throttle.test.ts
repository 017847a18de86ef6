import { describe, expect, it } from 'vitest'
import { LoginThrottle } from '../../src/auth/login-throttle.ts'

const FAILURES_AT_ONCE = 20

/** Brakes with a clock that stands still until it is moved. */
function openBrakes() {
  let now = 0
  const brakes = new LoginThrottle(() => now)
  return {
    wait: (seconds: number) => {
      now += seconds * 1000
    },
    fail: (address: string, times = 1) => {
      for (let time = 0; time < times; time += 1) brakes.recordFailure(address)
    },
    /** Undefined, or after how many seconds the address may try again. */
    waitOf: (address: string): number | undefined => {
      try {
        brakes.assertBelowLimit(address)
        return undefined
      } catch (error) {
        const { code, headers } = error as { code: string; headers: Record<string, string> }
        expect(code).toBe('TOOMANYREQUESTS')
        return Number(headers['Retry-After'])
      }
    },
  }
}

describe('whoever fails to authenticate', () => {
  it('may do so some times in a row, and then waits', () => {
    const { fail, waitOf } = openBrakes()
    fail('192.0.2.1', FAILURES_AT_ONCE - 1)
    expect(waitOf('192.0.2.1')).toBeUndefined()
    fail('192.0.2.1')
    expect(waitOf('192.0.2.1')).toBe(3)
    expect(waitOf('192.0.2.2')).toBeUndefined()
  })

  it('may try again after as long as it was told', () => {
    const { fail, wait, waitOf } = openBrakes()
    fail('192.0.2.1', FAILURES_AT_ONCE + 4)
    const seconds = waitOf('192.0.2.1') ?? 0
    expect(seconds).toBeGreaterThan(3)
    wait(seconds / 2)
    expect(waitOf('192.0.2.1')).toBeDefined()
    wait(seconds / 2)
    expect(waitOf('192.0.2.1')).toBeUndefined()
    fail('192.0.2.1')
    expect(waitOf('192.0.2.1')).toBeDefined()
  })

  it('and keeps on failing gets one try each three seconds, for ever', () => {
    const { fail, wait, waitOf } = openBrakes()
    let tries = 0
    for (let second = 0; second < 3600; second += 1) {
      if (waitOf('192.0.2.1') === undefined) {
        fail('192.0.2.1')
        tries += 1
      }
      wait(1)
    }
    expect(tries).toBeLessThanOrEqual(FAILURES_AT_ONCE + 3600 / 3 + 1)
    expect(tries).toBeGreaterThan(1000)
  })

  it('is forgiven in time', () => {
    const { fail, wait, waitOf } = openBrakes()
    fail('192.0.2.1', FAILURES_AT_ONCE)
    wait(3600)
    fail('192.0.2.1', FAILURES_AT_ONCE - 1)
    expect(waitOf('192.0.2.1')).toBeUndefined()
  })
})

describe('an IPv6 address', () => {
  it.each([
    '2001:db8:1:2::1',
    '2001:db8:1:2:ffff:ffff:ffff:ffff',
    '2001:0db8:0001:0002::1',
    '2001:DB8:1:2:0:0:0:1',
    '2001:db8:1:2::192.0.2.1',
  ])('shares its count with the 2^64 beside it, as %s', (address) => {
    const { fail, waitOf } = openBrakes()
    fail(address, FAILURES_AT_ONCE)
    expect(waitOf('2001:db8:1:2::abcd')).toBeDefined()
    expect(waitOf('2001:db8:1:3::abcd')).toBeUndefined()
  })

  it.each([
    ['::1', '::2', '1::'],
    ['fe80::1', 'fe80::2', 'fe80:0:0:1::1'],
    ['2001:db8::1', '2001:db8:0:0:1::', '2001:db8:0:1::'],
    ['::', '::ffff', '0:0:0:1::'],
  ])('%s is counted with %s and not with %s', (address, beside, other) => {
    const { fail, waitOf } = openBrakes()
    fail(address, FAILURES_AT_ONCE)
    expect(waitOf(beside)).toBeDefined()
    expect(waitOf(other)).toBeUndefined()
  })
})
