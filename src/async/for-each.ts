/**
 * Runs `work` for each item, at most `concurrencyMax` at once. Rejects with the first failure, after
 * which no further item is started.
 */
export async function forEachConcurrent<T>(
  items: readonly T[],
  concurrencyMax: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const item = items[next] as T
      next += 1
      try {
        await work(item)
      } catch (error) {
        next = items.length
        throw error
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrencyMax, items.length) }, worker))
}
