import { setImmediate as nextTurn } from 'node:timers/promises'

const SLICE_MILLISECONDS_MAX = 5

/**
 * Filters a list whose test is costly. Other requests run between slices of some milliseconds, so that a
 * long list delays nobody.
 */
export async function filterInSlices<T>(
  items: readonly T[],
  isWanted: (item: T) => boolean,
): Promise<T[]> {
  const wanted: T[] = []
  let sliceEnds = performance.now() + SLICE_MILLISECONDS_MAX
  for (const item of items) {
    if (isWanted(item)) wanted.push(item)
    if (performance.now() < sliceEnds) continue
    await nextTurn()
    sliceEnds = performance.now() + SLICE_MILLISECONDS_MAX
  }
  return wanted
}
