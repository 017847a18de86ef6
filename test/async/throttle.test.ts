import { expect, it } from 'vitest'
import { Throttle } from '../../src/async/throttle.ts'

async function* chunks(count: number, bytes: number) {
  for (let index = 0; index < count; index += 1) yield new Uint8Array(bytes).fill(index)
}

async function drain(stream: AsyncIterable<Uint8Array>): Promise<number[]> {
  const seen: number[] = []
  for await (const chunk of stream) seen.push(chunk[0] ?? -1)
  return seen
}

it('passes every chunk on in its order, and two streams share the rate', async () => {
  const throttle = new Throttle(100_000)
  const { signal } = new AbortController()
  const started = performance.now()
  const seen = await Promise.all([1, 2].map(() => drain(throttle.limit(chunks(5, 2_000), signal))))
  expect(seen).toEqual([
    [0, 1, 2, 3, 4],
    [0, 1, 2, 3, 4],
  ])
  // 20 000 bytes at 100 000 a second. A timer may fire a millisecond early.
  expect(performance.now() - started).toBeGreaterThan(190)
})

it('throws at once when its signal is aborted, also while it waits', async () => {
  const stopping = new AbortController()
  const reason = new Error('stopped')
  const throttle = new Throttle(1)
  const draining = drain(throttle.limit(chunks(2, 1_000), stopping.signal))
  setImmediate(() => stopping.abort(reason))
  await expect(draining).rejects.toThrow()
  await expect(drain(throttle.limit(chunks(1, 1), stopping.signal))).rejects.toBe(reason)
})
