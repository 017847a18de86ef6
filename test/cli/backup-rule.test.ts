import { expect, it } from 'vitest'
import { keptNames } from '../../src/cli/server/backup-expiry.ts'

const at = (day: string, time = '03-00-00') => `2026-11-${day}T${time}Z`
const NAMES = [at('01'), at('02'), at('02', '15-00-00'), at('09'), at('10'), at('10', '04-00-00')]

it.each([
  ['the newest', { last: 1, daily: 0 }, NAMES.slice(-1)],
  ['the newest three', { last: 3, daily: 0 }, NAMES.slice(-3)],
  ['more than there are', { last: 99, daily: 0 }, NAMES],
  [
    'the newest of each of the last three days that have one',
    { last: 1, daily: 3 },
    [at('02', '15-00-00'), at('09'), at('10', '04-00-00')],
  ],
  ['both', { last: 2, daily: 3 }, [at('02', '15-00-00'), at('09'), at('10'), at('10', '04-00-00')]],
])('expiry keeps %s', (_what, rule, kept) => {
  expect([...keptNames(NAMES.toReversed(), rule)].sort()).toEqual(kept)
})

it('a clock that was a year ahead once removes one day of backups, and not all', () => {
  const ahead = '2027-11-10T03-00-00Z'
  const kept = keptNames([...NAMES, ahead], { last: 1, daily: 3 })
  expect([...kept].sort()).toEqual([at('09'), at('10', '04-00-00'), ahead])
})

it('nothing is kept of nothing', () => {
  expect(keptNames([], { last: 3, daily: 3 }).size).toBe(0)
})
