import { describe, expect, it } from 'vitest'
import { compareAlpineVersions } from '../../../src/unikernel/versions/alpine.ts'
import { expectAscending, expectOrder, expectSameOrder } from './expect-order.ts'

describe('Alpine', () => {
  // apk-package(5): the parts of a version, and the order of suffixes.
  it.each([
    [
      'suffixes',
      ['1_alpha', '1_beta', '1_pre', '1_rc', '1', '1_cvs', '1_svn', '1_git', '1_hg', '1_p'],
    ],
    ['parts', ['1_rc9', '1', '1-r1', '1~0a', '1_p', '1a', '1.0', '1.1', '2']],
    ['counts', ['3_alpha', '3_alpha1', '3_alpha2', '3_alpha10', '3_alpha10_p1', '3']],
    ['suffixes behind suffixes', ['0.1_alpha_pre2', '0.1_alpha', '0.1_alpha_p1', '0.1']],
    ['builds', ['5.1-r0', '5.1-r1', '5.1-r9', '5.1-r10', '5.1.1-r0']],
    ['letters', ['0.9.8', '0.9.8-r3', '0.9.8c-r1', '0.9.8d', '0.9.9']],
    ['commits', ['1.0', '1.0~1234-r0', '1.0~1234-r1', '1.0~2345-r0', '1.1']],
    ['numbers with leading zeros', ['8.2.0', '8.2.001', '8.2.0015', '8.2.002', '8.2.01', '8.2.1']],
    ['first numbers', ['1.06-r6', '3.9', '006', '013', '014-r1', '087-r1', '103']],
    ['long numbers', ['1_pre20191002222144', '1_pre20210530193627', `1_pre${'9'.repeat(30)}`]],
  ])('orders %s', (_what, versions) => {
    expectAscending(versions, compareAlpineVersions)
  })

  // From the list of apk-tools' own tests (test/unit/version.data): one line of each kind.
  it.each([
    '2.34 > 0.1.0_alpha',
    '0.1.0_alpha = 0.1.0_alpha',
    '0.1.0_alpha2 > 0.1.0_alpha',
    '0.1.0_alpha < 2.2.39-r1',
    '1.0.4-r4 < 1.6',
    '1.1 > 1.1_alpha1',
    '1.2 < 1.3_alpha',
    '1.3_alpha2 < 1.3_alpha3',
    '4.8-r1 > 3.10.18-r1',
    '2.3.0b-r4 > 0.12.1',
    '0.13_beta5 > 0.9.12',
    '1.2.12.1 < 1.2.13',
    '3.1_p16 < 3.1_p17',
    '006 > 1.0.0',
    '2.59 < 20050718-r1',
    '2.01.01_alpha10 > 0.94',
    '1.0 > 0.99.3.20040818',
    '1.39 > 1.00_beta2',
    '4.2.52_p2-r1 < 4.2.52_p4-r2',
    '1.05-r18 < 1.05-r19',
    '2.5.1-r8 < 2.5.1a-r1',
    '1.3.5-r10 > 1.3.5-r8',
    '2.0.0_rc3-r1 > 1.5',
    '6b-r7 > 1.12-r7',
    '0.10.0 < 0.10.1_rc1',
    '2.10.1 > 02.08.01b',
    '1.07-r1 < 1.07.5',
    '4.5_p1 < 4.5_p1-r1',
    '1.8.5 < 1.8.5_p2',
    '2.9.11_pre20051101-r3 > 2.9.11_pre20051101',
    '1.6.8_p12-r1 > 1.6.8_p9-r2',
    '0.9.28-r2 < 0.9.28.1',
    '7.0.17 < 7.0.174',
    '1.3-r0 < 1.3.1-r0',
    '1.3_pre1-r1 < 1.3.2',
    '1.0_p10-r0 > 1.0_p9-r0',
    '0.1.0_alpha_pre2 < 0.1.0_alpha',
    '1.0.0_pre20191002222144-r0 < 1.0.0_pre20210530193627-r0',
    '6.0_pre1 < 6.0',
    '6.1_p1 > 6.1',
    '8.2.0 < 8.2.001',
    '8.2.0015 < 8.2.002',
    '1.0~1234 < 1.0~2345',
    '1.0~1234-r1 < 1.0~2345-r0',
    '1.0~1234-r1 > 1.0~1234-r0',
    '23_foo > 4_beta',
    '1.0 < 1.0bc',
  ])('agrees that %s', (fact) => {
    expectOrder(fact, compareAlpineVersions)
  })

  it('ignores leading zeros, except after a dot', () => {
    expectSameOrder(['1', '01', '001'], compareAlpineVersions)
    expectSameOrder(['1-r1', '1-r01'], compareAlpineVersions)
    expectSameOrder(['1_p1', '1_p01'], compareAlpineVersions)
    expect(compareAlpineVersions('1.1', '1.01')).toBeGreaterThan(0)
  })

  // Versions that are invalid for apk in the same list, each after its valid prefix.
  it.each([
    ['0.1b', ['c', 'c1', '1', '.1']],
    ['0.1', ['_', '__alpha', '_foobar', '_prefix', '~', '~xbcd', '-', '-pre1.1', '-r', 'A', '!']],
    ['0.1_pre2', ['~', '_', '.1', 'a']],
    ['0.1_1', ['', '_alpha', '_p']],
    ['0.1-r2', ['_pre1', '-r3', '.1', '~1234']],
    ['', ['.1', 'a', '_pre1', '-r1', ' 1']],
  ])('orders a version with unknown parts just before %j', (version, unknown) => {
    const all = unknown.map((text) => version + text)
    const sorted = [...all, version].toSorted(compareAlpineVersions)
    if (version !== '' && version !== '0.1_1') expect(sorted.at(-1)).toBe(version)
    // They differ from each other, so that `=` matches only one of them.
    expectAscending([...new Set(all)].toSorted(compareAlpineVersions), compareAlpineVersions)
  })
})
