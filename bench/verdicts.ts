/** Compares two builds by the costs of rounds that were measured in turn. */

export type Verdict = 'better' | 'equal' | 'worse'

/** A difference that every round must exceed: the load itself and the clock of CPU time vary by so much. */
const NOISE = 0.03
/** Fewer rounds show nothing: by chance, all of two have the same sign in every second row. */
export const VERDICT_ROUNDS_MIN = 4

export interface Compared {
  /** The cost of the first build divided by that of the second one: the median of all rounds. */
  readonly ratio: number
  readonly lowest: number
  readonly highest: number
  readonly verdict: Verdict
}

/**
 * Compares the costs of the rounds of two builds; those with the same number were measured directly one after the other. A verdict
 * other than `equal` needs the same sign in every round. Undefined with too few rounds.
 */
export function compareRounds(
  costs: readonly number[],
  before: readonly number[],
): Compared | undefined {
  const ratios = costs
    .flatMap((cost, round) => {
      const other = before[round]
      return other === undefined || other <= 0 ? [] : [cost / other]
    })
    .sort((a, b) => a - b)
  const [lowest, highest] = [ratios[0], ratios.at(-1)]
  if (ratios.length < VERDICT_ROUNDS_MIN || lowest === undefined || highest === undefined) {
    return undefined
  }
  const middle = ratios.length >> 1
  const [low = lowest, high = highest] = [ratios[(ratios.length - 1) >> 1], ratios[middle]]
  return { ratio: (low + high) / 2, lowest, highest, verdict: verdictOf(lowest, highest) }
}

function verdictOf(lowest: number, highest: number): Verdict {
  if (highest < 1 - NOISE) return 'better'
  return lowest > 1 + NOISE ? 'worse' : 'equal'
}
