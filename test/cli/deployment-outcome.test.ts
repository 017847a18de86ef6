import { describe, expect, it } from 'vitest'
import {
  type Aim,
  outcomeOf,
  statusOf,
  worstStatus,
} from '../../src/cli/registry/deployment-outcome.ts'
import { deployment, target } from './deployments.ts'

const HEALTHY: Aim = { goal: 'healthy', hosts: undefined }
const SETTLED: Aim = { goal: 'settled', hosts: undefined }
const SETTLED_AT = { settledAt: '2026-11-30T02:31:00.000Z' }
const healthy = target('web-1', 'healthy')
const settled = target('web-1', 'healthy', SETTLED_AT)
const offline = target('web-2', 'offline')

describe('the outcome of a deployment', () => {
  it.each([
    ['has no targets yet', 'rolling', []],
    ['has a host that waits', 'rolling', [healthy, target('web-2', 'waiting')]],
    ['has a host in flight', 'rolling', [healthy, target('web-2', 'checking')]],
    ['has only hosts that are offline', 'rolling', [offline]],
    ['is paused behind its canary', 'paused', [settled, target('web-2', 'waiting')]],
    ['has a failure that it may survive', 'rolling', [healthy, target('web-2', 'failed')]],
  ])('is open while it %s', (_why, state, targets) => {
    expect(outcomeOf(deployment(state, targets), HEALTHY)).toBeUndefined()
  })

  it('is healthy with the first passed checks, and settled after the watch window', () => {
    const early = deployment('rolling', [healthy, offline])
    expect(outcomeOf(early, HEALTHY)).toBe('healthy')
    expect(outcomeOf(early, SETTLED)).toBeUndefined()
    const late = deployment('succeeded', [settled, offline])
    expect(outcomeOf(late, HEALTHY)).toBe('healthy')
    expect(outcomeOf(late, SETTLED)).toBe('settled')
  })

  it('is read in the same way when healthy units that settled are counted as settled alone', () => {
    const { counts, ...rest } = deployment('succeeded', [settled])
    const exclusive = { ...rest, counts: { ...counts, healthy: 0 } }
    expect(outcomeOf(exclusive, SETTLED)).toBe('settled')
    expect(outcomeOf(exclusive, HEALTHY)).toBe('healthy')
  })

  it('follows the end that the registry states', () => {
    const failed = [healthy, target('web-2', 'failed')]
    for (const state of ['failed', 'halted', 'cancelled']) {
      expect(outcomeOf(deployment(state, failed), HEALTHY)).toBe('failed')
    }
    expect(outcomeOf(deployment('superseded', failed), HEALTHY)).toBe('superseded')
    // A rollout may survive failures.
    expect(outcomeOf(deployment('succeeded', failed), HEALTHY)).toBe('healthy')
  })

  it('needs as many healthy hosts as required, and waits for hosts that may return', () => {
    const need = (hosts: Aim['hosts']): Aim => ({ goal: 'healthy', hosts })
    expect(outcomeOf(deployment('rolling', [healthy, offline]), need('all'))).toBeUndefined()
    const ended = deployment('succeeded', [settled, offline])
    expect(outcomeOf(ended, need('all'))).toBe('incomplete')
    expect(outcomeOf(ended, need(2))).toBe('incomplete')
    expect(outcomeOf(ended, need(1))).toBe('healthy')
    const { targets: _hidden, ...counted } = ended
    expect(outcomeOf(counted, need(2))).toBe('incomplete')
    expect(outcomeOf(counted, need(1))).toBe('healthy')
    const oneHost = deployment('succeeded', [settled, { ...settled, unit: 'api' }])
    expect(outcomeOf(oneHost, need(2))).toBe('incomplete')
    expect(outcomeOf(deployment('succeeded', []), need('all'))).toBe('incomplete')
  })
})

describe('the exit status', () => {
  it('differs between the outcomes', () => {
    const outcomes = [
      'healthy',
      'settled',
      'failed',
      'incomplete',
      'timed-out',
      'superseded',
    ] as const
    expect(outcomes.map((one) => statusOf(one, false))).toEqual([0, 0, 1, 1, 3, 4])
    expect(statusOf('unfollowed', false)).toBe(0)
    expect(statusOf('unfollowed', true)).toBe(1)
  })

  it('of several deployments is that of the worst', () => {
    expect(worstStatus([0, 4, 3, 1])).toBe(1)
    expect(worstStatus([0, 4, 3])).toBe(3)
    expect(worstStatus([0, 4])).toBe(4)
    expect(worstStatus([0, 0])).toBe(0)
    expect(worstStatus([])).toBe(0)
  })
})
