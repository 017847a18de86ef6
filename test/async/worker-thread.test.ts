import { afterEach, describe, expect, it } from 'vitest'
import { WorkerThread } from '../../src/async/worker-thread.ts'

/** A thread that runs a task of JavaScript. It answers with the number of tasks that it has run. */
const PROGRAM = `
  import { parentPort } from 'node:worker_threads'
  let count = 0
  parentPort.on('message', (code) => {
    count += 1
    try {
      new Function(code)()
      parentPort.postMessage({ isDone: true, result: count })
    } catch (error) {
      parentPort.postMessage({ isDone: false, error })
    }
  })`

const threads: WorkerThread<string, number>[] = []

function open(taskMillisecondsMax = 10_000): WorkerThread<string, number> {
  const thread = new WorkerThread<string, number>({
    entry: new URL(`data:text/javascript,${encodeURIComponent(PROGRAM)}`),
    waitingMax: 3,
    clientWaitingMax: 2,
    taskMillisecondsMax,
    heapMebibytesMax: 32,
  })
  threads.push(thread)
  return thread
}

afterEach(async () => {
  for (const thread of threads.splice(0)) await thread.close()
})

const run = (thread: WorkerThread<string, number>, task = '', client = 'a') =>
  thread.run(client, async () => ({ task }))

describe('a worker thread', () => {
  it('runs tasks one after the other', async () => {
    const thread = open()
    expect(await Promise.all([run(thread), run(thread)])).toEqual([1, 2])
    await expect(run(thread, "throw new RangeError('too far')")).rejects.toThrow('too far')
    expect(await run(thread)).toBe(4)
  })

  it('prepares a task when its turn comes', async () => {
    const thread = open()
    const prepared: string[] = []
    const prepare = (name: string) => async () => {
      prepared.push(name)
      return { task: '' }
    }
    const tasks = [thread.run('a', prepare('first')), thread.run('a', prepare('second'))]
    expect(prepared).toEqual(['first'])
    await Promise.all(tasks)
    expect(prepared).toEqual(['first', 'second'])
    await expect(thread.run('a', () => Promise.reject(new Error('missing')))).rejects.toThrow(
      'missing',
    )
    expect(await run(thread)).toBe(3)
  })

  it('refuses a task when as many wait as allowed', async () => {
    const thread = open()
    const tasks = [run(thread), run(thread), run(thread)]
    expect(thread.waiting).toBe(2)
    await expect(async () => run(thread)).rejects.toMatchObject({ name: 'QueueFullError' })
    expect(await Promise.all(tasks)).toEqual([1, 2, 3])
    expect(thread.waiting).toBe(0)
  })

  it('lets clients take turns, and refuses one with many tasks before the others', async () => {
    const thread = open()
    const done: string[] = []
    const record = (client: string) => run(thread, '', client).then(() => done.push(client))
    const tasks = [record('a'), record('a'), record('a')]
    await expect(async () => run(thread)).rejects.toMatchObject({ name: 'QueueFullError' })
    tasks.push(record('b'))
    await expect(async () => run(thread, '', 'c')).rejects.toMatchObject({ name: 'QueueFullError' })
    await Promise.all(tasks)
    expect(done).toEqual(['a', 'a', 'b', 'a'])
  })

  it.each([
    ['does not end', 'for (;;) {}', 1_000, 'it takes more than 1000 ms'],
    ['ends the thread', 'process.exit()', 30_000, 'its thread ended'],
    // A busy machine takes seconds to fill the heap.
    ['takes too much memory', 'let list; for (;;) list = { list }', 30_000, 'its thread ended'],
  ])('is started again after a task that %s', async (_what, task, millisecondsMax, reason) => {
    const thread = open(millisecondsMax)
    const failing = run(thread, task)
    const next = run(thread)
    await expect(failing).rejects.toMatchObject({ name: 'TaskFailedError' })
    await expect(failing).rejects.toThrow(reason)
    expect(await next).toBe(1)
  })

  it('fails its tasks when it is closed', async () => {
    const thread = open()
    const tasks = [run(thread, 'for (;;) {}'), run(thread)]
    const ended = Promise.allSettled(tasks)
    await thread.close()
    expect(await ended).toMatchObject([{ status: 'rejected' }, { status: 'rejected' }])
    await expect(async () => run(thread)).rejects.toThrow('the thread was closed')
  })
})
