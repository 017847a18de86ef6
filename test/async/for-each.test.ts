import { expect, it } from 'vitest'
import { forEachConcurrent } from '../../src/async/for-each.ts'

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

it.each([
  [0, 3],
  [2, 3],
  [20, 1],
  [20, 3],
])('runs %i items, at most %i at once, each once', async (count, concurrencyMax) => {
  const items = Array.from({ length: count }, (_, index) => index)
  const done: number[] = []
  let [running, most] = [0, 0]
  await forEachConcurrent(items, concurrencyMax, async (item) => {
    running += 1
    most = Math.max(most, running)
    await turn()
    running -= 1
    done.push(item)
  })
  expect(done.sort((a, b) => a - b)).toEqual(items)
  expect(most).toBe(Math.min(count, concurrencyMax))
})

it('rejects with the first failure, and starts no further item', async () => {
  const started: number[] = []
  const all = forEachConcurrent([1, 2, 3, 4, 5, 6], 2, async (item) => {
    started.push(item)
    await turn()
    if (item === 2) throw new Error('two')
  })
  await expect(all).rejects.toThrow('two')
  for (let count = 0; count < 5; count += 1) await turn()
  expect(started).toEqual([1, 2, 3])
})

it('rejects when no work is in progress any more', async () => {
  let running = 0
  const all = forEachConcurrent([1, 2, 3], 3, async (item) => {
    running += 1
    for (let count = 0; count < item; count += 1) await turn()
    running -= 1
    throw new Error(`failure ${item}`)
  })
  await expect(all).rejects.toThrow('failure 1')
  expect(running).toBe(0)
})
