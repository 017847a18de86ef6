import { WorkerProcess } from '../../src/async/worker-process.ts'

// Starts a WorkerProcess with the module of the first argument, and runs the second argument as its task.
const [entry = '', task = ''] = process.argv.slice(2)
const worker = new WorkerProcess<string, unknown>({
  entry: new URL(entry),
  waitingMax: 1,
  clientWaitingMax: 1,
  taskMillisecondsMax: 60_000,
  heapMebibytesMax: 32,
})
// Until it is killed.
setInterval(() => {}, 60_000)
await worker.run('', async () => task)
