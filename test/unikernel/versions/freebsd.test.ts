import { describe, expect, it } from 'vitest'
import { parseVersionConstraint, satisfies } from '../../../src/unikernel/versions/constraint.ts'
import { compareFreebsdVersions } from '../../../src/unikernel/versions/freebsd.ts'
import { expectAscending, expectOrder, expectSameOrder } from './expect-order.ts'

describe('FreeBSD', () => {
  // The cases of pkg's own tests for `pkg version -t` and `pkg info` (tests/frontend/version.sh).
  it.each([
    '1 < 2',
    '2 > 1',
    '2 = 2',
    '2 < 1,1',
    '1.pl1 < 1.alpha1',
    '1.alpha1 < 1.beta1',
    '1.beta1 < 1.pre1',
    '1.pre1 < 1.rc1',
    '1.rc1 < 1',
    '1.pl1 < 1.snap1',
    '1.snap1 > 1.alpha1',
    '5.20_3 > 0',
    '5.20_3 > 5',
    '5.20_3 < 6',
    '5.20_3 > 5.20',
    '5.20_3 = 5.20_3',
  ])('agrees that %s', (fact) => {
    expectOrder(fact, compareFreebsdVersions)
  })

  // The rules in the comments of pkg's implementation (libpkg/pkg_version.c).
  it.each([
    '1.0:2003.09.16 = 1.0.2003.09.16',
    '1.0.1:2003.09.16 < 1.0:2003.09.16',
    '10..1 = 10.1',
    '10a1b2 = 10a1.b2',
    '10 = 10.0',
    '10.0 = 10.0.0',
    '10 < 10a',
    '10a < 10b',
    'a < 0',
    '10.a < 10',
    '10alpha = 10.a',
    '10.a < 10',
    'pl11 < alpha3',
    'alpha3 < 0.1beta2',
    '0.1beta2 = 0.1.b2',
    '0.1.b2 < 0.1',
    '1.d2 = 1.dev2',
    '1.dev2 = 1.Development2',
    '2.* < 2pl1',
    '2pl1 < 2alpha3',
    '2alpha3 < 2.9f7',
    '2.9f7 < 3.*',
  ])('has the rule that %s', (fact) => {
    expectOrder(fact, compareFreebsdVersions)
  })

  it.each([
    [
      'epochs, then versions, then revisions',
      ['1', '1_1', '1_2', '1.1', '2', '1,1', '1_1,1', '2,1', '1,2', '1,10'],
    ],
    [
      'stages',
      [
        '3.pl1',
        '3.alpha',
        '3.alpha1',
        '3.b2',
        '3.rc1',
        '3snap',
        '3',
        '3_1',
        '3.1',
        '3a',
        '3a0',
        '3a1',
      ],
    ],
    [
      'a stage that follows a number like one that follows a dot',
      ['4.0rc1', '4.0.rc2', '4.0rc3', '4.0'],
    ],
    ['only separate words as stages', ['1.pl2', '1.plx1', '1.rc', '1']],
    [
      'groups divided by plus signs',
      ['1.0', '1.0+1', '1.0+2', '1.0+2+1', '1.0+2.1', '1.0.1', '1.1'],
    ],
    ['stars', ['2.*', '2.*+1', '2.pl', '2.0', '2.0.1']],
    ['dates and commits', ['0.g20230101', '1.0', '20240101', '20240101_1', '20250101']],
    [
      'what is on its hosts',
      ['12.2.0', '13.2.0', '13.2.0_4', '13.2.0_10', '14.0.0', '3.0.15,1', '3.0.15_1,1'],
    ],
  ])('orders %s', (_what, versions) => {
    expectAscending(versions, compareFreebsdVersions)
  })

  it.each([
    [['1', '1.0', '01.00', '1_0', '1,0', '1_0,0', '1..', '1-0']],
    [['1.alpha2', '1alpha2', '1.ALPHA2', '1.a2', '1:apple02']],
    [['2.*', '2.*9', '2.*.8a']],
    [['', '0', '0.0', '+', '0+0', '_', ',']],
  ])('has %j as equal', (versions) => {
    expectSameOrder(versions, compareFreebsdVersions)
  })

  it('parses an epoch only after the revision', () => {
    expectOrder('1_2,1 > 2', compareFreebsdVersions)
    expectOrder('1,1_2 < 2', compareFreebsdVersions)
  })

  it('compares numbers beyond 64 bits', () => {
    const long = '9'.repeat(30)
    expectAscending([`1${long}`, `2${long}`, `2${long}.1`], compareFreebsdVersions)
    expectAscending([`1_1${long}`, `1_2${long}`], compareFreebsdVersions)
    expect(compareFreebsdVersions(`1,1${long}`, `1,2${long}`)).toBeLessThan(0)
  })

  it('supports epochs in constraints', () => {
    const constraint = parseVersionConstraint('>= 1.2_3,1 & < "2,1"')
    const versions = ['9', '1.2_2,1', '1.2_3,1', '1.10,1', '2,1', '1,2']
    expect(
      versions.filter((version) => satisfies(version, constraint, compareFreebsdVersions)),
    ).toEqual(['1.2_3,1', '1.10,1'])
  })
})
