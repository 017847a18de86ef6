import type { Deployment, DeploymentTarget } from '../../src/client/deployments.ts'

const COUNTS = {
  ...{ waiting: 0, inFlight: 0, healthy: 0, settled: 0, failed: 0 },
  ...{ refused: 0, offline: 0, skipped: 0, of: 0 },
}
const IN_FLIGHT = ['granted', 'fetching', 'starting', 'checking']

/** A target as the API shows it. */
export function target(
  host: string,
  state: string,
  more: Partial<DeploymentTarget> = {},
): DeploymentTarget {
  const since = '2026-11-30T02:30:00.000Z'
  const none = { settledAt: null, reason: null, message: null }
  return { host, unit: 'www', state, since, ...none, ...more }
}

/** A deployment of targets as the API shows it, with their counts. */
export function deployment(
  state: string,
  targets: readonly DeploymentTarget[],
  more: Partial<Deployment> = {},
): Deployment {
  const count = (...states: string[]) => targets.filter((one) => states.includes(one.state)).length
  return {
    id: '0197a2c4-5b1e-7c3d-8a4f-0123456789ab',
    repository: 'builds/www',
    tag: 'live',
    number: 12,
    digest: `sha256:${'a'.repeat(64)}`,
    previous: null,
    kind: 'push',
    state,
    reason: null,
    createdAt: '2026-11-30T02:30:00.000Z',
    finishedAt: null,
    counts: {
      ...COUNTS,
      waiting: count('waiting'),
      inFlight: count(...IN_FLIGHT),
      healthy: count('healthy'),
      settled: targets.filter(({ settledAt }) => settledAt !== null).length,
      failed: count('failed', 'rolled-back', 'overdue'),
      refused: count('refused'),
      offline: count('offline'),
      skipped: count('skipped'),
      of: targets.length,
    },
    targets,
    ...more,
  }
}
