import type { TargetState } from '../../deployments/states.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Transaction } from '../database.ts'
import { DESIRED_COLUMNS, DESIRED_TABLES, type DesiredRow } from './desired.ts'
import { DEPLOYMENTS_CHANNEL } from './notifications.ts'
import { RECORD_TARGETS } from './targets.ts'
import type { UnitRow } from './units.ts'

/** A conflict of a host that lasts is recorded again after this time. */
const CONFLICT_EVENT_SECONDS = 3_600

/** A program of a host that starts kernels. */
export type TenderRow = DesiredRow['tenders'][number]

/** The rows that a report is compared with, beside its unit. */
export type ReportContext = DesiredRow & {
  readonly host: {
    readonly name: string
    readonly labels: Readonly<Record<string, string>>
    readonly agent: string | null
    readonly bootId: string | null
    /** The last one first. */
    readonly previousBootIds: readonly string[]
    /** True when an event of the last hour is about a conflict. */
    readonly isConflictKnown: boolean
  }
  /** The target of the unit in the deployment that granted its digest, locked. */
  readonly granted: {
    readonly state: TargetState
    readonly kernel: Digest | null
    readonly isSettled: boolean
  } | null
  /** True when the reported kernel is one of those of the granted digest. */
  readonly isGrantedKernel: boolean
  /** The kernel of the run that has no end. */
  readonly runningKernel: Digest | null
  /** The newest digest of the tag whose deployment succeeded, and which did not fail here. */
  readonly succeededDigest: Digest | null
}

/** Reads what a report is compared with, and locks the target. The caller has locked the unit. */
export async function findReportContext(
  tx: Transaction,
  hostId: number,
  unit: string,
  kernel: Digest | null,
): Promise<ReportContext | undefined> {
  const { rows } = await tx.query<ReportContext>(
    `select ${DESIRED_COLUMNS},
            json_build_object('name', h.name, 'labels', h.labels, 'agent', h.agent, 'bootId', h.boot_id,
                              'previousBootIds', h.previous_boot_ids,
                              'isConflictKnown', coalesce(h.conflict_at between
                                clock_timestamp() - make_interval(secs => ${CONFLICT_EVENT_SECONDS}) and clock_timestamp(), false)
                             ) as host,
            locked.target as granted,
            exists (
              select 1
                from manifests m
               where m.repository_id = r.id
                 and m.digest = u.granted_digest
                 and exists (
                       select 1
                         from (
                           select m.id
                           union all
                           select c.id
                             from manifest_children mc
                             join manifests c on c.repository_id = r.id and c.digest = mc.digest
                            where mc.manifest_id = m.id
                         ) listed
                         join images i
                           on i.manifest_id = listed.id
                           or i.manifest_id in (
                                select un.id from manifests un where un.unwrapped_from = listed.id)
                        where i.kernel_digest = $3)
            ) as "isGrantedKernel",
            (
              select run.kernel
                from runs run
               where run.host_id = u.host_id
                 and run.unit = u.name
                 and run.to_at is null
            ) as "runningKernel",
            (
              select s.digest
                from deployments s
               where s.repository_id = r.id
                 and s.tag = u.tag
                 and s.state = 'succeeded'
                 and s.digest is distinct from u.granted_digest
               order by s.number desc
               limit 1
            ) as "succeededDigest"
       from ${DESIRED_TABLES}
       left join lateral (
         select json_build_object('state', own.state, 'kernel', own.kernel,
                                  'isSettled', own.settled_at is not null) as target
           from targets own
          where own.deployment_id = u.granted_by
            and own.host_id = u.host_id
            and own.unit = u.name
            for update
       ) locked on true
      where u.host_id = $1
        and u.name = $2`,
    [hostId, unit, kernel],
  )
  return rows[0]
}

/** The fields of a report that are stored in its unit. */
export type StoredReport = Omit<
  UnitRow,
  'grantedDigest' | 'grantedBy' | 'goodDigest' | 'earlierGoodDigest' | 'failedDigest' | 'earlier'
> & {
  /** Null: the time of the report. */
  readonly since: Date | null
}

/** The changes that follow from a report. Undefined: it stays as it is. */
export type ReportChanges = {
  readonly grant: { readonly digest: Digest | null; readonly by: string | null } | undefined
  readonly goodDigest: Digest | null | undefined
  readonly failedDigest: Digest | undefined
  /** The state of the target of `granted_by`. */
  readonly target: TargetState | undefined
  /** True when another kernel runs, or none any more. */
  readonly isOtherRun: boolean
  readonly host:
    | {
        readonly tenders: readonly TenderRow[]
        readonly agent: string | null
        readonly bootId: string | null
        readonly previousBootIds: readonly string[]
        readonly isConflict: boolean
      }
    | undefined
}

/** Remembers a report of an earlier boot that came late, and stores nothing else of it. */
export async function markLate(
  tx: Transaction,
  hostId: number,
  unit: string,
  { bootId, sequence }: Pick<StoredReport, 'bootId' | 'sequence'>,
): Promise<void> {
  await tx.query(
    `update units
        set earlier_boot_id = $3,
            earlier_sequence = $4,
            earlier_is_late = true
      where host_id = $1
        and name = $2`,
    [hostId, unit, bootId, sequence],
  )
}

/**
 * Stores a report and what follows from it in one statement, with the event of its target, and notifies every process when
 * the transaction commits. The caller has locked the unit and its target.
 */
export async function storeReport(
  tx: Transaction,
  hostId: number,
  unit: string,
  report: StoredReport,
  changes: ReportChanges,
): Promise<void> {
  const { grant, goodDigest, failedDigest, target, isOtherRun, host } = changes
  await tx.query(
    `with before as (
       select granted_by
         from units
        where host_id = $1
          and name = $2
     ), unit as (
       update units
          set repository = $3, tag = $4, target = $5, devices = $6, kernel = $7, state = $8, reason = $9,
              message = $10, exit_code = $11, exit_meaning = $28, boot_id = $12, sequence = $13,
              earlier_boot_id = case when boot_id <> $12 then boot_id else earlier_boot_id end,
              earlier_sequence = case when boot_id <> $12 then
                  greatest(sequence, case when earlier_boot_id = boot_id then earlier_sequence end)
                else earlier_sequence end,
              earlier_is_late = case when boot_id <> $12 then
                  earlier_boot_id is not distinct from boot_id and earlier_is_late
                else earlier_is_late end,
              since = coalesce(least($14, clock_timestamp()), clock_timestamp()),
              reported_at = clock_timestamp(),
              granted_digest = case when $15 then $16 else granted_digest end,
              granted_by = case when $15 then $17::uuid else granted_by end,
              granted_at = case when $15 then clock_timestamp() else granted_at end,
              good_digest = case when $29 then $18 else good_digest end,
              earlier_good_digest = case
                when $29 and $18 <> good_digest and $19::text is null then good_digest
                else earlier_good_digest end,
              failed_digest = coalesce($19, failed_digest)
        where host_id = $1
          and name = $2
     ), changed as (
       update targets g
          set state = $20,
              changed_at = clock_timestamp(),
              healthy_at = case when $20 = 'healthy' then clock_timestamp() else g.healthy_at end,
              ended_at = case when $20 in ('failed', 'rolled-back') then clock_timestamp() end,
              deadline_at = case
                when g.state = 'offline' and $20 in ('fetching', 'starting', 'checking') then
                  clock_timestamp() + make_interval(secs => coalesce((
                    select (d.rollout ->> 'deadlineSeconds')::integer
                      from deployments d
                     where d.id = g.deployment_id
                  ), 0))
                else g.deadline_at end,
              exit_code = $11,
              exit_meaning = $28,
              reason = $9,
              message = $10
         from before
        where g.deployment_id = before.granted_by
          and g.host_id = $1
          and g.unit = $2
          and $20::text is not null
       returning g.*
     ), ${RECORD_TARGETS}, ended as (
       update runs
          set to_at = statement_timestamp()
        where host_id = $1
          and unit = $2
          and to_at is null
          and $21
       returning id
     ), begun as (
       insert into runs (host_id, unit, repository, kernel, from_at)
       select $1, $2, $3, $7, statement_timestamp()
         from (select count(*) from ended) finished
        where $21
          and $7::text is not null
     ), machine as (
       update hosts
          set tenders = $23, agent = $24, boot_id = $25, previous_boot_ids = $26,
              conflict_at = case when $27 then clock_timestamp() else conflict_at end
        where id = $1
          and $22
     )
     select pg_notify('${DEPLOYMENTS_CHANNEL}', notice)
       from (
         select 'deployment:' || deployment_id as notice
           from changed
          union all
         select 'host:' || $1::text
          where $15
       ) notices`,
    [
      ...[hostId, unit, report.repository, report.tag, report.target, report.devices],
      ...[report.kernel, report.state, report.reason, report.message, report.exitCode],
      ...[report.bootId, report.sequence, report.since],
      ...[grant !== undefined, grant?.digest ?? null, grant?.by ?? null],
      ...[goodDigest ?? null, failedDigest ?? null, target ?? null, isOtherRun],
      ...[host !== undefined, JSON.stringify(host?.tenders ?? []), host?.agent ?? null],
      ...[host?.bootId ?? null, host?.previousBootIds ?? [], host?.isConflict ?? false],
      ...[report.exitMeaning, goodDigest !== undefined],
    ],
  )
}
