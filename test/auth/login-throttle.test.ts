import { describe, expect, it } from 'vitest'
import { LoginThrottle } from '../../src/auth/login-throttle.ts'
import type { RegistryError } from '../../src/oci/errors.ts'

const FAILURES_AT_ONCE = 20

/** Opens a throttle with a clock that only the test moves. */
function openThrottle() {
  let now = 0
  let guesses = 0
  const throttle = new LoginThrottle(() => now)
  return {
    wait: (seconds: number) => {
      now += seconds * 1000
    },
    /** Sends wrong secrets, each of them once. */
    fail: (address: string, times = 1, user = 'admin') => {
      for (let time = 0; time < times; time += 1) {
        guesses += 1
        throttle.recordFailure(address, user, `wrong ${guesses}`)
      }
    },
    repeat: (address: string, secret: string) => throttle.recordFailure(address, 'admin', secret),
    /** Returns the seconds until the address may try again, or undefined when it need not wait. */
    waitOf: (address: string, user = 'admin'): number | undefined => {
      try {
        throttle.assertBelowLimit(address, user)
        return undefined
      } catch (error) {
        const { code, data } = error as RegistryError
        expect(code).toBe('TOOMANYREQUESTS')
        return data.retryAfterSeconds
      }
    },
  }
}

describe('a client that fails to authenticate', () => {
  it('may do so some times in a row, and must then wait', () => {
    const { fail, waitOf } = openThrottle()
    fail('192.0.2.1', FAILURES_AT_ONCE - 1)
    expect(waitOf('192.0.2.1')).toBeUndefined()
    fail('192.0.2.1')
    expect(waitOf('192.0.2.1')).toBe(3)
    expect(waitOf('192.0.2.2')).toBeUndefined()
  })

  it('may try again after the time that the error gives', () => {
    const { fail, wait, waitOf } = openThrottle()
    fail('192.0.2.1', FAILURES_AT_ONCE)
    const seconds = waitOf('192.0.2.1') ?? 0
    expect(seconds).toBe(3)
    wait(seconds / 2)
    expect(waitOf('192.0.2.1')).toBeDefined()
    wait(seconds / 2)
    expect(waitOf('192.0.2.1')).toBeUndefined()
    fail('192.0.2.1')
    expect(waitOf('192.0.2.1')).toBeDefined()
  })

  it('and keeps failing gets one attempt in three seconds, for ever', () => {
    const { fail, wait, waitOf } = openThrottle()
    let attempts = 0
    for (let second = 0; second < 3600; second += 1) {
      if (waitOf('192.0.2.1') === undefined) {
        fail('192.0.2.1')
        attempts += 1
      }
      wait(1)
    }
    expect(attempts).toBeLessThanOrEqual(FAILURES_AT_ONCE + 3600 / 3 + 1)
    expect(attempts).toBeGreaterThan(1000)
  })

  it('waits alone: another user name from its address is not affected', () => {
    const { fail, waitOf } = openThrottle()
    fail('192.0.2.1', FAILURES_AT_ONCE, 'builder')
    expect(waitOf('192.0.2.1', 'builder')).toBe(3)
    expect(waitOf('192.0.2.1', 'other')).toBeUndefined()
  })

  it('and repeats one wrong secret is counted once', () => {
    const { repeat, fail, waitOf } = openThrottle()
    for (let time = 0; time < 1000; time += 1) repeat('192.0.2.1', 'an old password')
    fail('192.0.2.1', FAILURES_AT_ONCE - 2)
    expect(waitOf('192.0.2.1')).toBeUndefined()
  })

  it('with many user names reaches the limit of its address', () => {
    const { fail, waitOf } = openThrottle()
    let refused = 0
    for (let user = 0; user < 400; user += 1) {
      try {
        fail('192.0.2.1', 1, `user ${user}`)
      } catch {
        refused += 1
      }
    }
    expect(refused).toBe(200)
    // The limit of an address refuses wrong secrets only: the right one of any user is looked up first.
    expect(waitOf('192.0.2.1', 'admin')).toBeUndefined()
  })

  it('is forgiven with time', () => {
    const { fail, wait, waitOf } = openThrottle()
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
  ])('shares its count with its /64: %s', (address) => {
    const { fail, waitOf } = openThrottle()
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
    const { fail, waitOf } = openThrottle()
    fail(address, FAILURES_AT_ONCE)
    expect(waitOf(beside)).toBeDefined()
    expect(waitOf(other)).toBeUndefined()
  })
})
