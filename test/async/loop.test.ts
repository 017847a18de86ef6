import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Loop } from '../../src/async/loop.ts'

/** Work whose runs end one by one, when the test says so. */
function manualWork() {
  const ends: ((error?: Error) => void)[] = []
  const signals: AbortSignal[] = []
  const work = (signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      signals.push(signal)
      ends.push((error) => (error === undefined ? resolve() : reject(error)))
    })
  return { work, signals, runs: () => ends.length, end: (error?: Error) => ends.at(-1)?.(error) }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))
const unexpected = (error: unknown) => expect.unreachable(String(error))

describe('a poked loop', () => {
  it('joins pokes during a run into one more run', async () => {
    const { work, runs, end } = manualWork()
    const loop = new Loop({ work, onError: unexpected })
    loop.poke()
    expect(runs()).toBe(1)
    for (let count = 0; count < 3; count += 1) loop.poke()
    await turn()
    expect(runs()).toBe(1)
    end()
    await turn()
    expect(runs()).toBe(2)
    end()
    await turn()
    expect(runs()).toBe(2)
    await loop.stop()
  })

  it('settles when a run that began after the call has ended', async () => {
    const { work, runs, end } = manualWork()
    const loop = new Loop({ work, onError: unexpected })
    loop.poke()
    const settled = vi.fn()
    const settling = loop.settle().then(settled)
    end()
    await turn()
    expect(settled).not.toHaveBeenCalled()
    expect(runs()).toBe(2)
    // A later poke does not hold up an earlier call.
    loop.poke()
    end()
    await settling
    expect(runs()).toBe(3)
    end()
    await loop.stop()
  })

  it('reports a failed run, settles it too, and goes on', async () => {
    const errors: unknown[] = []
    const { work, runs, end } = manualWork()
    const loop = new Loop({ work, onError: (error) => errors.push(error) })
    const settling = loop.settle()
    const failure = new Error('no database')
    loop.poke()
    end(failure)
    await settling
    expect(errors).toEqual([failure])
    expect(runs()).toBe(2)
    end()
    await loop.stop()
  })
})

describe('a loop with a timer', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('runs at its start and then every so many seconds', async () => {
    let runs = 0
    const work = async () => {
      runs += 1
    }
    const loop = new Loop({ work, everySeconds: 2, onError: unexpected }).start()
    expect(runs).toBe(1)
    await vi.advanceTimersByTimeAsync(6_000)
    expect(runs).toBe(4)
    await loop.stop()
    await vi.advanceTimersByTimeAsync(6_000)
    expect(runs).toBe(4)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('ignores ticks during a run', async () => {
    const { work, runs, end } = manualWork()
    const loop = new Loop({ work, everySeconds: 1, onError: unexpected }).start()
    await vi.advanceTimersByTimeAsync(5_000)
    end()
    await vi.advanceTimersByTimeAsync(0)
    expect(runs()).toBe(1)
    await vi.advanceTimersByTimeAsync(1_000)
    expect(runs()).toBe(2)
    end()
    await loop.stop()
  })

  it('waits at its stop for the run in progress, but not for longer than its limit', async () => {
    const { work, signals } = manualWork()
    const loop = new Loop({ work, onError: unexpected, stopSecondsMax: 2 })
    loop.poke()
    const stopped = vi.fn()
    const stopping = loop.stop().then(stopped)
    expect(signals[0]?.aborted).toBe(true)
    await vi.advanceTimersByTimeAsync(1_999)
    expect(stopped).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(1)
    await stopping
  })
})

describe('a stopped loop', () => {
  it('ends work that follows its signal, and reports no error for it', async () => {
    const work = (signal: AbortSignal) =>
      new Promise<void>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
      })
    const loop = new Loop({ work, onError: unexpected })
    const settling = loop.settle()
    await loop.stop()
    await settling
  })

  it('runs no more, and lets nobody wait', async () => {
    const { work, runs, end } = manualWork()
    const loop = new Loop({ work, onError: unexpected })
    loop.poke()
    const waiting = loop.settle()
    const stopping = loop.stop()
    end()
    await Promise.all([stopping, waiting, loop.settle()])
    loop.poke()
    expect(runs()).toBe(1)
  })
})
