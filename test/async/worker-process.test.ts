import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { WorkerProcess } from '../../src/async/worker-process.ts'
import { waitUntil } from '../support/wait-until.ts'

/** A module that runs a task of JavaScript. It answers with the number of tasks that it has run. */
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
const ENTRY = new URL(`data:text/javascript,${encodeURIComponent(PROGRAM)}`)
const STARTED = { timeout: 30_000, interval: 50 }

const workers: WorkerProcess<string, number>[] = []

function open(taskMillisecondsMax = 10_000): WorkerProcess<string, number> {
  const worker = new WorkerProcess<string, number>({
    entry: ENTRY,
    waitingMax: 3,
    clientWaitingMax: 2,
    taskMillisecondsMax,
    heapMebibytesMax: 32,
  })
  workers.push(worker)
  return worker
}

afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.close()
})

/** A process that has ended and that nobody has waited for is not running. */
async function isRunning(pid: number): Promise<boolean> {
  const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z')
  return !/\) [ZX]/.test(state)
}

const run = (worker: WorkerProcess<string, number>, task = '', client = 'a') =>
  worker.run(client, async () => task)

describe('a worker process', () => {
  it('runs tasks one after the other', async () => {
    const worker = open()
    expect(await Promise.all([run(worker), run(worker)])).toEqual([1, 2])
    await expect(run(worker, "throw new RangeError('too far')")).rejects.toThrow('too far')
    expect(await run(worker)).toBe(4)
  })

  it('prepares a task when its turn comes', async () => {
    const worker = open()
    const prepared: string[] = []
    const prepare = (name: string) => async () => {
      prepared.push(name)
      return ''
    }
    const tasks = [worker.run('a', prepare('first')), worker.run('a', prepare('second'))]
    expect(prepared).toEqual(['first'])
    await Promise.all(tasks)
    expect(prepared).toEqual(['first', 'second'])
    await expect(worker.run('a', () => Promise.reject(new Error('missing')))).rejects.toThrow(
      'missing',
    )
    expect(await run(worker)).toBe(3)
  })

  it('refuses a task when as many wait as allowed', async () => {
    const worker = open()
    const tasks = [run(worker), run(worker), run(worker)]
    expect(worker.waiting).toBe(2)
    await expect(async () => run(worker)).rejects.toMatchObject({ name: 'QueueFullError' })
    expect(await Promise.all(tasks)).toEqual([1, 2, 3])
    expect(worker.waiting).toBe(0)
  })

  it('lets clients take turns, and refuses one with many tasks before the others', async () => {
    const worker = open()
    const done: string[] = []
    const record = (client: string) => run(worker, '', client).then(() => done.push(client))
    const tasks = [record('a'), record('a'), record('a')]
    await expect(async () => run(worker)).rejects.toMatchObject({ name: 'QueueFullError' })
    tasks.push(record('b'))
    await expect(async () => run(worker, '', 'c')).rejects.toMatchObject({ name: 'QueueFullError' })
    await Promise.all(tasks)
    expect(done).toEqual(['a', 'a', 'b', 'a'])
  })

  it.each([
    ['does not end', 'for (;;) {}', 5_000, 'it takes more than 5000 ms'],
    ['ends the thread', 'process.exit()', 30_000, 'its process ended'],
    // A busy machine takes seconds to fill the heap.
    ['grows in small steps', 'let list; for (;;) list = { list }', 30_000, 'its process ended'],
    [
      'grows in lists',
      'const all = []; for (;;) all.push(Array(1000).fill(1.5))',
      30_000,
      'its process ended',
    ],
    ['takes much memory at once', 'new Array(1e8).fill(1.5)', 30_000, 'its process ended'],
  ])('is started again after a task that %s', async (_what, task, millisecondsMax, reason) => {
    const worker = open(millisecondsMax)
    const failing = run(worker, task)
    const next = run(worker)
    await expect(failing).rejects.toMatchObject({ name: 'TaskFailedError' })
    await expect(failing).rejects.toThrow(reason)
    expect(await next).toBe(1)
  })

  it('has no variable of the environment, and goes on after the signals that a terminal sends to all', async () => {
    const worker = open()
    await run(worker)
    expect(
      await run(worker, "if (Object.keys(process.env).length > 0) throw new Error('has some')"),
    ).toBe(2)
    const signals =
      "for (const one of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.kill(process.pid, one)"
    expect(await run(worker, signals)).toBe(3)
    expect(await run(worker)).toBe(4)
  })

  it('ends with the process that started it, also in the middle of a task', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'worker-process-'))
    const file = join(folder, 'pid')
    const task = `
      process.getBuiltinModule('node:fs').writeFileSync(${JSON.stringify(file)}, process.pid + ' ')
      for (;;) {}`
    const starter = fileURLToPath(new URL('./worker-process.child.ts', import.meta.url))
    const parent = spawn(process.execPath, ['--import', 'tsx', starter, ENTRY.href, task])
    try {
      const pid = await vi.waitFor(async () => {
        const text = await readFile(file, 'utf8')
        if (!text.endsWith(' ')) throw new Error('the task has not begun')
        return Number(text)
      }, STARTED)
      expect(await isRunning(pid)).toBe(true)
      parent.kill('SIGKILL')
      await waitUntil(async () => !(await isRunning(pid)))
    } finally {
      parent.kill('SIGKILL')
      await rm(folder, { recursive: true })
    }
  })

  it('fails its tasks when it is closed', async () => {
    const worker = open()
    const tasks = [run(worker, 'for (;;) {}'), run(worker)]
    const ended = Promise.allSettled(tasks)
    await worker.close()
    expect(await ended).toMatchObject([{ status: 'rejected' }, { status: 'rejected' }])
    await expect(async () => run(worker)).rejects.toThrow('the process was closed')
  })
})
