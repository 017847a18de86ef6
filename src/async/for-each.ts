/**
 * Runs `work` for each item, at most `concurrencyMax` at once. After a failure no further item is
 * started; rejects with the first failure when the work in progress has ended.
 */
export async function forEachConcurrent<T>(
  items: readonly T[],
  concurrencyMax: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0
  const failures: unknown[] = []
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const item = items[next] as T
      next += 1
      try {
        await work(item)
      } catch (error) {
        next = items.length
        failures.push(error)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrencyMax, items.length) }, worker))
  if (failures.length > 0) throw failures[0]
}
