import type { ReportChanges, ReportContext, StoredReport } from '../db/deployments/reports.ts'
import type { UnitRow } from '../db/deployments/units.ts'
import type { Digest } from '../oci/digest.ts'
import type { Tender } from './preflight.ts'
import { IN_FLIGHT, type TargetState } from './states.ts'

/** The state of a unit, as its host reports it. `bootId` names one boot of the host, and `sequence` counts within it. */
export type Report = StoredReport & {
  /** The deployment that the state is about. Null: the report does not say. */
  readonly deployment: string | null
  /** Time for which a kernel was healthy before it failed. Null: the report does not say. */
  readonly healthySeconds: number | null
  readonly log: string | null
  /** The programs that start kernels; undefined: the report does not say. */
  readonly tenders: readonly Tender[] | undefined
  readonly agent: string | undefined
}

/**
 * `stale`: a newer report of the same boot came first. `repeated`: it is the last report once more. `late`: the host has
 * booted since, and it is the first such report. `conflict`: the earlier boot goes on, so two machines have the same key.
 */
export type ReportOrder = 'new' | 'repeated' | 'stale' | 'late' | 'conflict'

/** Boots of a host that are remembered beside the last one: so many more machines with one key are noticed. */
const PREVIOUS_BOOTS_MAX = 8

/** Compares a report with the last ones of its unit and of its host. Another boot counts from the start. */
export function orderOf(unit: UnitRow, host: ReportContext['host'], report: Report): ReportOrder {
  const isSameBoot = unit.bootId === report.bootId
  if (isSameBoot && isRepeated(unit, report)) return 'repeated'
  const earlier = unit.earlier?.bootId === report.bootId ? unit.earlier : undefined
  const last = Math.max(isSameBoot ? unit.sequence : -1, earlier?.sequence ?? -1)
  if (!isOfEarlierBoot(host, report)) {
    return isSameBoot && report.sequence <= unit.sequence ? 'stale' : 'new'
  }
  if (report.sequence <= last) return 'stale'
  // A report of one earlier boot may be delayed. Reports of two of them come from other machines.
  return unit.earlier?.isLate === true ? 'conflict' : 'late'
}

function isRepeated(unit: UnitRow, report: Report): boolean {
  return (
    report.sequence === unit.sequence &&
    unit.kernel === report.kernel &&
    unit.state === report.state &&
    unit.reason === report.reason &&
    unit.message === report.message &&
    unit.exitCode === report.exitCode &&
    unit.exitMeaning === report.exitMeaning
  )
}

/** True for a boot before the last one, as far as reports of all units of the host say. */
function isOfEarlierBoot(host: ReportContext['host'], { bootId }: Report): boolean {
  return host.bootId !== bootId && host.previousBootIds.includes(bootId)
}

/** True when the unit begins to follow another tag. */
export function followsOther(unit: UnitRow, report: Pick<Report, 'repository' | 'tag'>): boolean {
  return unit.repository !== report.repository || unit.tag !== report.tag
}

/**
 * Returns what follows from a report. A report is never refused because it is unexpected: what it says is stored, and the
 * target of the deployment that granted the digest follows it as far as its state can.
 */
export function changesOf(
  unit: UnitRow,
  context: ReportContext,
  report: Report,
  order: ReportOrder,
): ReportChanges {
  const target = targetStateOf(unit, context, report)
  const isFailure = target === 'failed' || target === 'rolled-back'
  const failed = isFailure ? (unit.grantedDigest ?? undefined) : undefined
  const good = fallback(unit, context)
  return {
    target,
    failedDigest: failed,
    grant: failed === undefined ? undefined : { digest: good, by: null },
    goodDigest: isFailure ? good : goodDigestOf(unit, context, report),
    isOtherRun: report.kernel !== context.runningKernel,
    host: hostChangeOf(context, report, order),
  }
}

/** The states of a target from which a report can change it. */
const OPEN: readonly TargetState[] = [...IN_FLIGHT, 'healthy', 'overdue', 'offline']

function targetStateOf(
  unit: UnitRow,
  { granted, settleSeconds }: ReportContext,
  report: Report,
): TargetState | undefined {
  if (granted === null || !OPEN.includes(granted.state)) return undefined
  const { state, kernel } = report
  if (state === 'healthy') {
    return kernel !== null && kernel === granted.kernel && granted.state !== 'healthy'
      ? 'healthy'
      : undefined
  }
  const isAbout =
    report.deployment === null
      ? kernel === null || kernel === granted.kernel
      : report.deployment === unit.grantedBy
  if (!isAbout) return undefined
  // A failure after the watch time is one of the unit, and never turns a deployment around.
  const isLate =
    granted.state === 'healthy' && (report.healthySeconds ?? -1) >= (settleSeconds ?? 0)
  const isWatched = !granted.isSettled && !isLate
  if (state === 'failed' || state === 'rolled-back') return isWatched ? state : undefined
  // A kernel that ended within the watch time is not healthy any more while the host restores the previous one.
  if (granted.state === 'healthy') return state === 'checking' && isWatched ? state : undefined
  const isProgress = state === 'fetching' || state === 'starting' || state === 'checking'
  // An overdue target stays a failure until the unit is healthy.
  const canProgress = granted.state !== 'overdue'
  return isProgress && canProgress && state !== granted.state ? state : undefined
}

/** Returns the granted digest when its kernel is healthy; undefined otherwise. */
function goodDigestOf(
  { grantedDigest }: UnitRow,
  { granted, isGrantedKernel }: ReportContext,
  { state, kernel }: Report,
): Digest | undefined {
  if (state !== 'healthy' || grantedDigest === null || kernel === null) return undefined
  const runsGranted = granted === null ? isGrantedKernel : granted.kernel === kernel
  return runsGranted ? grantedDigest : undefined
}

/** Returns the digest that a unit goes back to when the granted one failed: the last that was good. */
function fallback(unit: UnitRow, context: ReportContext): Digest | null {
  // An image that was healthy for less than the watch time is the last good one.
  const good = [unit.goodDigest, unit.earlierGoodDigest]
  return good.find((digest) => digest !== unit.grantedDigest) ?? context.succeededDigest
}

/** Returns what the report says of its host, undefined: nothing new. */
function hostChangeOf(
  { host, tenders }: ReportContext,
  report: Report,
  order: ReportOrder,
): ReportChanges['host'] {
  const isConflict = order === 'conflict'
  // A new unit of the earlier boot is late, too, or the first sign of a conflict.
  const isOtherBoot =
    isConflict || (host.bootId !== report.bootId && !isOfEarlierBoot(host, report))
  const change = {
    tenders: report.tenders ?? tenders,
    agent: report.agent ?? host.agent,
    bootId: isOtherBoot ? report.bootId : host.bootId,
    previousBootIds: isOtherBoot ? previousBoots(host, report.bootId) : host.previousBootIds,
    isConflict,
  }
  const isSame =
    !isOtherBoot &&
    change.agent === host.agent &&
    JSON.stringify(change.tenders.map(tenderText)) === JSON.stringify(tenders.map(tenderText))
  return isSame ? undefined : change
}

function previousBoots({ bootId, previousBootIds }: ReportContext['host'], present: string) {
  const others = previousBootIds.filter((one) => one !== present)
  return (bootId === null ? others : [bootId, ...others]).slice(0, PREVIOUS_BOOTS_MAX)
}

function tenderText({ target, abi, architecture }: Tender): string {
  return `${target} ${abi} ${architecture}`
}
