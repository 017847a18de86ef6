import type { HostRow, ListedUnit } from '../../auth/hosts/hosts.ts'

/** Returns a host as the API shows it, without its units. */
export function hostJson(host: HostRow) {
  const isPending = host.state === 'pending'
  return {
    name: host.name,
    state: host.state,
    trust: host.trust,
    fingerprint: host.fingerprint,
    repositories: host.repositories,
    networks: host.networks,
    labels: host.labels,
    tenders: host.tenders,
    agent: host.agent,
    presence:
      host.state === 'active' && host.seenAt !== null && host.lostAt === null
        ? ('online' as const)
        : ('offline' as const),
    seenAt: host.seenAt,
    conflictAt: host.conflictAt,
    // Nobody made a host that waits for its approval: its row has the network that it called from.
    createdBy: isPending ? null : host.createdBy,
    requestedFrom: isPending ? host.createdBy : null,
    createdAt: host.createdAt,
    expiresAt: host.expiresAt,
    revokedAt: host.revokedAt,
  }
}

/** Returns a unit as those see it who manage its host. */
export function unitJson(unit: ListedUnit) {
  return {
    name: unit.name,
    repository: unit.repository,
    tag: unit.tag,
    target: unit.target,
    devices: unit.devices,
    kernel: unit.kernel,
    state: unit.state,
    reason: unit.reason,
    message: unit.message,
    exitCode: unit.exitCode,
    exitMeaning: unit.exitMeaning,
    since: unit.since,
    reportedAt: unit.reportedAt,
    deployment: unit.grantedBy,
    grantedDigest: unit.grantedDigest,
    goodDigest: unit.goodDigest,
    failedDigest: unit.failedDigest,
    log: unit.log,
    loggedAt: unit.loggedAt,
  }
}
