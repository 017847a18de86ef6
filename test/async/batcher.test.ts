import { describe, expect, it } from 'vitest'
import { Batcher } from '../../src/async/batcher.ts'

/** A batch whose every flight lands when the test says so. */
function heldBatch(keysMax = 10) {
  const flights: { keys: number[]; land(error?: Error): void }[] = []
  const batch = new Batcher<number, string>(
    (keys) =>
      new Promise((resolve, reject) => {
        flights.push({
          keys,
          land: (error) => (error ? reject(error) : resolve(keys.map((key) => `v${key}`))),
        })
      }),
    keysMax,
  )
  return { batch, flights }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

describe('lookups that share a round trip', () => {
  it('a lookup alone leaves at once; those that come meanwhile travel together in the next', async () => {
    const { batch, flights } = heldBatch()
    const answers = [batch.find(1)]
    await turn()
    answers.push(batch.find(2), batch.find(3))
    expect(flights.map(({ keys }) => keys)).toEqual([[1]])
    flights[0]?.land()
    await turn()
    expect(flights.map(({ keys }) => keys)).toEqual([[1], [2, 3]])
    flights[1]?.land()
    expect(await Promise.all(answers)).toEqual(['v1', 'v2', 'v3'])
  })

  it('a question is never answered by a flight that left before it', async () => {
    const { batch, flights } = heldBatch()
    void batch.find(1)
    await turn()
    const again = batch.find(1)
    flights[0]?.land()
    await turn()
    expect(flights).toHaveLength(2)
    flights[1]?.land()
    expect(await again).toBe('v1')
  })

  it('carries at most its limit, and the rest in the next', async () => {
    const { batch, flights } = heldBatch(2)
    const answers = [1, 2, 3, 4, 5].map((key) => batch.find(key))
    await turn()
    for (let index = 0; index < 3; index += 1) {
      flights[index]?.land()
      await turn()
    }
    expect(flights.map(({ keys }) => keys)).toEqual([[1, 2], [3, 4], [5]])
    expect(await Promise.all(answers)).toHaveLength(5)
  })

  it('a flight that fails fails its own lookups, and the next one leaves', async () => {
    const { batch, flights } = heldBatch()
    const first = batch.find(1)
    await turn()
    const second = batch.find(2)
    flights[0]?.land(new Error('lost'))
    await expect(first).rejects.toThrow('lost')
    await turn()
    flights[1]?.land()
    expect(await second).toBe('v2')
  })
})
