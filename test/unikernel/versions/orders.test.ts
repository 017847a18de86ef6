import { spawnSync } from 'node:child_process'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compareDebianVersions } from '../../../src/unikernel/versions/debian.ts'
import { compareOpamVersions } from '../../../src/unikernel/versions/opam.ts'

const ORDERS = { opam: compareOpamVersions, deb: compareDebianVersions }

/** Each is before the next. */
function expectAscending(versions: readonly string[], order: (a: string, b: string) => number) {
  for (const [i, a] of versions.entries()) {
    for (const [j, b] of versions.entries()) {
      expect({ a, b, order: Math.sign(order(a, b)) }).toEqual({ a, b, order: Math.sign(i - j) })
    }
  }
}

describe('opam', () => {
  it('has the order of the example in its manual', () => {
    // "Version Ordering"
    const manual = [
      '~~',
      '~',
      '~beta2',
      '~beta10',
      '0.1',
      '1.0~beta',
      '1.0',
      '1.0-test',
      '1.0.1',
      '1.0.10',
      'dev',
      'trunk',
    ]
    expectAscending(manual, compareOpamVersions)
  })

  it('orders versions of its repository as its users expect', () => {
    expectAscending(
      ['4.14.2', '5.0.0~alpha0', '5.0.0~beta1', '5.0.0~rc1', '5.0.0', '5.0.0+options', '5.2.1'],
      compareOpamVersions,
    )
    expectAscending(
      ['v0.9.0', 'v0.16.0', 'v0.16.1', 'v0.17~preview.129.15+408', 'v0.17.0'],
      compareOpamVersions,
    )
    expectAscending(
      ['1.0', '1.0-1', '1.0-2', '1.0-10', '1.0a', '1.0+x', '1.0.0'],
      compareOpamVersions,
    )
    expectAscending(['3.9.9', '3.23.1', '3.24.2', '20210929'], compareOpamVersions)
  })

  it.each([
    ['1.0', '1.00'],
    ['1.0', '1.0-0'],
    ['0', ''],
    ['1.0.0', '1.0.00'],
  ])('has %s and %s as equal', (a, b) => {
    expect(compareOpamVersions(a, b)).toBe(0)
    expect(compareOpamVersions(b, a)).toBe(0)
  })
})

describe('Debian', () => {
  // Policy 5.6.12 and deb-version(7), and the cases of dpkg's own tests (lib/dpkg/t/t-version.c).
  it.each([
    [['~~', '~~a', '~', '', 'a']],
    [['1.0~beta1~svn1245', '1.0~beta1', '1.0']],
    [['0:0-0', '0:0-a', '1:0-0']],
    [['0', '1', '10', '0:10.0', '1:0']],
    [['1.2.3', '1.2.3-1', '1.2.3-1+b1', '1.2.3-1.1', '1.2.3-2', '1.2.3a', '1.2.3+1', '1.2.3.1']],
    [['2.36-9+deb12u7', '2.36-9+deb12u10', '2.36-9+deb13u1']],
    [['5.2.15-2+b7', '5.2.15-2+b8', '5.2.15-10', '5.2.21-1', '1:1.0']],
    [['1-1', '1-1-1', '1-2-0']],
    [['0~rc1', '0', '0a', '0.0', '0.1']],
  ])('%j ascends', (versions) => {
    expectAscending(versions, compareDebianVersions)
  })

  it.each([
    ['1', '0:1'],
    ['0:1', '00:1'],
    ['1-0', '1'],
    ['1.0', '1.00'],
    ['1-0a', '1-00a'],
  ])('has %s and %s as equal', (a, b) => {
    expect(compareDebianVersions(a, b)).toBe(0)
  })
})

describe.each(Object.entries(ORDERS))('the order of %s', (_name, order) => {
  const text = fc.oneof(fc.string({ maxLength: 40 }), fc.stringMatching(/^[0-9a-z.+~:-]{0,30}$/))

  it('is a total order, for any text', () => {
    fc.assert(
      fc.property(text, text, text, (a, b, c) => {
        expect(Math.sign(order(a, b)) + Math.sign(order(b, a))).toBe(0)
        expect(order(a, a)).toBe(0)
        const [x, y, z] = [a, b, c].toSorted(order) as [string, string, string]
        expect(order(x, y)).toBeLessThanOrEqual(0)
        expect(order(y, z)).toBeLessThanOrEqual(0)
        expect(order(x, z)).toBeLessThanOrEqual(0)
      }),
      { numRuns: 2000 },
    )
  })

  it('takes linear time', () => {
    const start = process.cpuUsage()
    for (const piece of ['1', '0', '~', 'a', '1.', '-', 'a1']) {
      const long = piece.repeat(200_000)
      order(long, `${long}1`)
      order(`${long}2`, `${long}1`)
    }
    expect(process.cpuUsage(start).user / 1e6).toBeLessThan(3)
  })
})

const hasDpkg = spawnSync('dpkg', ['--version']).status === 0

it.runIf(hasDpkg)('dpkg itself orders Debian versions so', () => {
  const version = fc.stringMatching(/^(?:[0-3]:)?[0-9](?:[0-9a-c.+~]|-[0-9]){0,8}$/)
  const pairs = fc.sample(fc.tuple(version, version), 150)
  // One shell for all: a process for each would take seconds.
  const script = pairs
    .map(
      ([a, b]) =>
        `if dpkg --compare-versions '${a}' lt '${b}'; then echo -1; elif dpkg --compare-versions '${a}' eq '${b}'; then echo 0; else echo 1; fi`,
    )
    .join('\n')
  const { stdout } = spawnSync('sh', ['-c', script], { encoding: 'utf8' })
  const said = stdout.trim().split('\n').map(Number)
  expect(said.length).toBe(pairs.length)
  pairs.forEach(([a, b], index) => {
    expect({ a, b, order: Math.sign(compareDebianVersions(a, b)) }).toEqual({
      a,
      b,
      order: said[index],
    })
  })
})
