import type { Database, Transaction } from '../db/database.ts'
import { listDesired } from '../db/deployments/desired.ts'
import { notifyDeployment, notifyHost } from '../db/deployments/notifications.ts'
import {
  findFollowedTag,
  insertUnit,
  listMissedUnits,
  markRegistered,
  setFirstGrant,
} from '../db/deployments/registrations.ts'
import {
  findReportContext,
  markLate,
  type ReportContext,
  storeReport,
} from '../db/deployments/reports.ts'
import { insertTargets } from '../db/deployments/targets.ts'
import { addUnitLog } from '../db/deployments/unit-logs.ts'
import {
  type Author,
  lockUnit,
  lockUnitsOfHost,
  removeUnit,
  skipTargetsOfUnit,
} from '../db/deployments/units.ts'
import { appendEvents } from '../db/events/outbox.ts'
import { badRequest } from '../oci/errors.ts'
import { type DesiredUnit, desiredUnit } from './desired-unit.ts'
import type { ImageKernelsCache } from './image-kernels.ts'
import { preflight } from './preflight.ts'
import { changesOf, followsOther, orderOf, type Report } from './report-changes.ts'

/** Units of one host. */
export const UNITS_MAX = 100

/** For so long after its registration, a unit is looked at again. */
const MISSED_SECONDS = 60
/** Such units of one round. */
const MISSED_AT_ONCE = 500
/** The registry itself, whose right nobody revokes. */
const NOBODY: Author = { origin: null, tokenId: null, keyId: null }

/** The answer to a report. */
export type ReportAnswer = {
  /** True when a newer report came first: this one changed nothing. */
  readonly stale: boolean
  readonly desired: DesiredUnit
}

/** A host that reports. */
export type ReportingHost = { readonly id: number; readonly name: string; readonly author: Author }

/** Stores what hosts report of their units. */
export class Reports {
  readonly #db: Database
  readonly #kernels: ImageKernelsCache
  readonly #onCommitted: () => void

  /** `onCommitted` is called after each commit that may have events. */
  constructor(db: Database, kernels: ImageKernelsCache, onCommitted: () => void) {
    this.#db = db
    this.#kernels = kernels
    this.#onCommitted = onCommitted
  }

  /**
   * Stores a report, and returns what the unit should run. A unit that is new, or follows another tag than before, is
   * registered. Throws REQUEST_INVALID for more than UNITS_MAX units, and UNAUTHORIZED when the host was revoked.
   */
  async store(host: ReportingHost, name: string, report: Report): Promise<ReportAnswer> {
    const stored = await this.#db.transaction((tx) => this.#store(tx, host, name, report))
    if (stored.hasEvents) this.#onCommitted()
    return { stale: stored.isStale, desired: await this.#desired(host.id, name, stored.context) }
  }

  /** Removes a unit. Returns false when the host has no such unit. */
  async remove(host: ReportingHost, name: string): Promise<boolean> {
    const isRemoved = await this.#db.transaction(async (tx) => {
      const unit = await lockUnit(tx, host.id, name, host.author)
      if (unit === undefined) return false
      await removeUnit(tx, host.id, name)
      await this.#leave(tx, host.id, name)
      return true
    })
    if (isRemoved) this.#onCommitted()
    return isRemoved
  }

  async #store(tx: Transaction, host: ReportingHost, name: string, report: Report) {
    const read = async () => ({
      unit: await lockUnit(tx, host.id, name, host.author),
      context: await findReportContext(tx, host.id, name, report.kernel),
    })
    let { unit, context } = await read()
    const order = unit && context ? orderOf(unit, context.host, report) : 'new'
    const isAccepted = order === 'new' || order === 'conflict'
    const isRegistration = unit === undefined || (isAccepted && followsOther(unit, report))
    if (isRegistration) {
      await this.#register(tx, host, name, report, unit === undefined)
      ;({ unit, context } = await read())
    }
    if (unit === undefined || context === undefined) throw new Error('a locked unit was removed')
    if (!isAccepted) {
      if (order === 'late') await markLate(tx, host.id, name, report)
      return { isStale: order !== 'repeated', context, hasEvents: false }
    }
    const changes = changesOf(unit, context, report, order)
    await storeReport(tx, host.id, name, report, changes)
    if (report.log !== null && report.log !== '') {
      await addUnitLog(tx, {
        ...{ hostId: host.id, unit: name, kernel: report.kernel, text: report.log },
        deployment: report.deployment === unit.grantedBy ? unit.grantedBy : null,
      })
    }
    const { host: machine } = changes
    const isConflict = machine?.isConflict === true && !context.host.isConflictKnown
    if (isConflict)
      await recordConflict(tx, context, report.bootId, machine.previousBootIds[0] ?? null)
    const hasEvents = isConflict || isRegistration || changes.target !== undefined
    const isMoved = isRegistration || changes.grant !== undefined
    const { kernel, state, sequence, target, devices } = report
    const tenders = report.tenders ?? context.tenders
    const seen = { ...context, kernel, state, sequence, target, devices, tenders }
    return { isStale: false, context: isMoved ? undefined : seen, hasEvents }
  }

  /** Begins to follow a tag: the unit joins its deployment in progress, or gets what the tag has. */
  async #register(
    tx: Transaction,
    host: ReportingHost,
    name: string,
    report: Report,
    isNew: boolean,
  ): Promise<void> {
    if (isNew) {
      const count = await lockUnitsOfHost(tx, host.id)
      if (count >= UNITS_MAX) {
        throw badRequest(`a host has at most ${UNITS_MAX} units, and ${host.name} has as many`)
      }
      await insertUnit(tx, host.id, name, report)
    } else await this.#leave(tx, host.id, name)
    await markRegistered(tx, host.id, name)
    await this.#joinTag(tx, host.id, name, report)
  }

  /** Gives units their first digest that registered while their tag moved. Returns how many. */
  async joinMissed(signal: AbortSignal): Promise<number> {
    const missed = await listMissedUnits(this.#db, MISSED_SECONDS, MISSED_AT_ONCE)
    for (const { hostId, name, ...follows } of missed) {
      if (signal.aborted) break
      await this.#db.transaction(async (tx) => {
        const unit = await lockUnit(tx, hostId, name, NOBODY)
        if (unit === undefined || followsOther(unit, follows)) return
        await this.#joinTag(tx, hostId, name, { ...follows, tenders: undefined })
        await notifyHost(tx, hostId)
      })
    }
    if (missed.length > 0) this.#onCommitted()
    return missed.length
  }

  /** Gives a unit that begins to follow a tag its first digest. */
  async #joinTag(
    tx: Transaction,
    hostId: number,
    name: string,
    follows: Pick<Report, 'repository' | 'tag' | 'target' | 'devices' | 'tenders'>,
  ): Promise<void> {
    const found = await findFollowedTag(tx, follows.repository, follows.tag)
    const { digest, deployment, succeededDigest } = found
    if (digest === null || deployment === null) {
      await setFirstGrant(tx, hostId, name, digest, null)
      return
    }
    if (deployment.state === 'succeeded') {
      await setFirstGrant(tx, hostId, name, digest, deployment.id)
      return
    }
    await setFirstGrant(tx, hostId, name, succeededDigest, null)
    const isOpen = deployment.state === 'rolling' || deployment.state === 'paused'
    // The controller makes the other targets, after this transaction, from all units that follow the tag then.
    if (!isOpen || !deployment.areTargetsMade) return
    await this.#joinDeployment(tx, hostId, name, { ...follows, digest }, deployment)
  }

  async #joinDeployment(
    tx: Transaction,
    hostId: number,
    name: string,
    follows: Pick<Report, 'repository' | 'target' | 'devices' | 'tenders'> & { digest: string },
    { id, rollout }: { id: string; rollout: { require: Readonly<Record<string, string>> } },
  ): Promise<void> {
    const context = await findReportContext(tx, hostId, name, null)
    if (context === undefined) throw new Error('a unit that was just registered is missing')
    const { labels } = context.host
    const lacksLabel = Object.entries(rollout.require).some(([key, value]) => labels[key] !== value)
    if (lacksLabel) return
    const { repository, digest, target, devices } = follows
    const kernels = await this.#kernels.loadWithin(tx, [{ repository, digest }])
    const image = kernels({ repository, digest })
    if (image === undefined) return
    const tenders = follows.tenders ?? context.tenders
    const { kernel, ...refusal } = preflight(image, { target, devices, tenders })
    await insertTargets(tx, id, [
      {
        ...{ hostId, unit: name, kernel: kernel?.kernel ?? null },
        state: kernel === null ? 'refused' : 'waiting',
        reason: refusal.reason ?? null,
        message: 'message' in refusal ? refusal.message : null,
      },
    ])
    await notifyDeployment(tx, id)
  }

  /** Ends what a unit had to do for the tag that it followed. */
  async #leave(tx: Transaction, hostId: number, name: string): Promise<void> {
    for (const deployment of await skipTargetsOfUnit(tx, hostId, name)) {
      await notifyDeployment(tx, deployment)
    }
  }

  /** `context`: the unit as the report left it; undefined: it is read again. */
  async #desired(
    hostId: number,
    name: string,
    context: ReportContext | undefined,
  ): Promise<DesiredUnit> {
    const row = context ?? (await listDesired(this.#db, [hostId], name))[0]
    if (row === undefined) throw new Error('a unit was removed while its host reported it')
    const { repository, grantedDigest } = row
    if (grantedDigest === null) return desiredUnit(row, undefined)
    const image = { repository, digest: grantedDigest }
    const kernels = await this.#kernels.load([image])
    return desiredUnit(row, kernels(image))
  }
}

async function recordConflict(
  tx: Transaction,
  { host: { name, labels } }: ReportContext,
  bootId: string,
  other: string | null,
): Promise<void> {
  const boots = [other ?? '', bootId] as const
  const event = { type: 'host.conflict', host: name, labels, boots } as const
  await appendEvents(tx, [{ event, repositoryId: null }])
}
