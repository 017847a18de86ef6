import type { Transaction } from '../db/database.ts'
import { type LockedDeployment, setTargetsMade } from '../db/deployments/deployments.ts'
import { listImageKernels } from '../db/deployments/kernels.ts'
import {
  type Candidate,
  insertTargets,
  listCandidates,
  type NewTarget,
  type Retried,
} from '../db/deployments/targets.ts'
import { type ImageKernels, preflight } from './preflight.ts'

/** Units that one statement reads or inserts. */
export const UNITS_PER_STATEMENT_MAX = 5_000
/** Units of one deployment. Further ones keep what they run. */
export const UNITS_PER_DEPLOYMENT_MAX = 100_000
/** A container image whose layers are not read by then counts as one without a kernel. */
const PENDING_SECONDS_MAX = 600
const NO_IMAGE: ImageKernels = { kernels: [], isPending: false, problem: 'it was deleted' }

/**
 * Makes the targets of a deployment from the units that follow its tag and are no targets yet, in the order of its
 * rollout. `retried`: only of these units. Units whose host cannot run the image are refused. Returns false while the
 * kernels of the image are not all read yet.
 */
export async function makeTargets(
  tx: Transaction,
  deployment: LockedDeployment,
  retried?: Retried,
): Promise<boolean> {
  const { id, repository, digest, createdAt, now } = deployment
  const [image = NO_IMAGE] = await listImageKernels(tx, [{ repository, digest }])
  const age = now.getTime() - createdAt.getTime()
  if (image.isPending && image.kernels.length === 0 && age < PENDING_SECONDS_MAX * 1000)
    return false
  const candidates = await listAll(tx, deployment, retried)
  const select = selection(image)
  const targets = candidates.sort(compareCandidates).map(select)
  for (let from = 0; from < targets.length; from += UNITS_PER_STATEMENT_MAX) {
    await insertTargets(tx, id, targets.slice(from, from + UNITS_PER_STATEMENT_MAX))
  }
  await setTargetsMade(tx, id)
  return true
}

async function listAll(
  tx: Transaction,
  deployment: LockedDeployment,
  retried: Retried | undefined,
): Promise<Candidate[]> {
  const all: Candidate[] = []
  let after: Pick<Candidate, 'hostId' | 'unit'> = { hostId: 0, unit: '' }
  while (all.length < UNITS_PER_DEPLOYMENT_MAX) {
    const page = await listCandidates(tx, deployment, retried, after, UNITS_PER_STATEMENT_MAX)
    for (const one of page) all.push(one)
    const last = page.at(-1)
    if (last === undefined || page.length < UNITS_PER_STATEMENT_MAX) break
    after = last
  }
  return all
}

/**
 * Compares two candidates: those first whose unit an earlier deployment left in flight or failed, because they are disturbed
 * already; then by the label of the rollout, those without it last; then by the names of host and unit.
 */
export function compareCandidates(a: Candidate, b: Candidate): number {
  if (a.isDisturbed !== b.isDisturbed) return a.isDisturbed ? -1 : 1
  if (a.orderValue !== b.orderValue) {
    if (a.orderValue === null || b.orderValue === null) return a.orderValue === null ? 1 : -1
    return compareText(a.orderValue, b.orderValue)
  }
  return compareText(a.host, b.host) || compareText(a.unit, b.unit)
}

/** The order does not depend on the language of the server. */
function compareText(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1
}

/** Returns the function that selects the kernel for a unit. Most units need the same. */
function selection(image: ImageKernels): (candidate: Candidate) => NewTarget {
  const cached = new Map<string, Omit<NewTarget, 'hostId' | 'unit'>>()
  return ({ hostId, unit, target, devices, tenders }) => {
    const key = JSON.stringify([target, devices, tenders])
    const selected = cached.get(key) ?? outcomeOf(image, { target, devices, tenders })
    cached.set(key, selected)
    return { hostId, unit, ...selected }
  }
}

function outcomeOf(
  image: ImageKernels,
  needs: Pick<Candidate, 'target' | 'devices' | 'tenders'>,
): Omit<NewTarget, 'hostId' | 'unit'> {
  const found = preflight(image, needs)
  if (found.kernel !== null) {
    return { state: 'waiting', kernel: found.kernel.kernel, reason: null, message: null }
  }
  return { state: 'refused', kernel: null, reason: found.reason, message: found.message }
}
