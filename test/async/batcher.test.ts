import { describe, expect, it } from 'vitest'
import { Batcher } from '../../src/async/batcher.ts'

/** A batcher whose batches end when the test says so. */
function manualBatcher(itemsMax = 10) {
  const batches: { keys: number[]; end(error?: Error): void }[] = []
  const batcher = new Batcher<number, string>(
    (keys) =>
      new Promise((resolve, reject) => {
        batches.push({
          keys,
          end: (error) => (error ? reject(error) : resolve(keys.map((key) => `v${key}`))),
        })
      }),
    itemsMax,
  )
  return { batcher, batches }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

describe('lookups that share a round trip', () => {
  it('a single lookup is sent at once; lookups during a batch travel together in the next', async () => {
    const { batcher, batches } = manualBatcher()
    const results = [batcher.load(1)]
    await turn()
    results.push(batcher.load(2), batcher.load(3))
    expect(batches.map(({ keys }) => keys)).toEqual([[1]])
    batches[0]?.end()
    await turn()
    expect(batches.map(({ keys }) => keys)).toEqual([[1], [2, 3]])
    batches[1]?.end()
    expect(await Promise.all(results)).toEqual(['v1', 'v2', 'v3'])
  })

  it('a lookup is never answered by a batch that was sent before it', async () => {
    const { batcher, batches } = manualBatcher()
    void batcher.load(1)
    await turn()
    const again = batcher.load(1)
    batches[0]?.end()
    await turn()
    expect(batches).toHaveLength(2)
    batches[1]?.end()
    expect(await again).toBe('v1')
  })

  it('a batch has at most its limit of items, and the rest are in the next', async () => {
    const { batcher, batches } = manualBatcher(2)
    const results = [1, 2, 3, 4, 5].map((key) => batcher.load(key))
    await turn()
    for (let index = 0; index < 3; index += 1) {
      batches[index]?.end()
      await turn()
    }
    expect(batches.map(({ keys }) => keys)).toEqual([[1, 2], [3, 4], [5]])
    expect(await Promise.all(results)).toHaveLength(5)
  })

  it('a failed batch fails its own lookups, and the next one is sent', async () => {
    const { batcher, batches } = manualBatcher()
    const first = batcher.load(1)
    await turn()
    const second = batcher.load(2)
    batches[0]?.end(new Error('lost'))
    await expect(first).rejects.toThrow('lost')
    await turn()
    batches[1]?.end()
    expect(await second).toBe('v2')
  })
})

it('a batcher that writes submits its items in their order', async () => {
  const { batcher, batches } = manualBatcher()
  const results = [3, 1, 2].map((item) => batcher.submit(item))
  await turn()
  expect(batches.map(({ keys }) => keys)).toEqual([[3, 1, 2]])
  batches[0]?.end()
  expect(await Promise.all(results)).toEqual(['v3', 'v1', 'v2'])
})
