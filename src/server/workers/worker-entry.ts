// The process of a worker. It starts and stops at messages of the primary; signals of a terminal reach both. node:cluster
// ends a worker whose primary has ended.
import cluster from 'node:cluster'
import { operatorMessageOf } from '../../cli/server/operator-errors.ts'
import { parseConfig } from '../../config/config.ts'
import { createLog } from '../log.ts'
import type { Leave } from '../readiness.ts'
import { growYoungGeneration } from '../young-generation.ts'
import type { ToPrimary, ToWorker, WorkerStart } from './messages.ts'
import { type RunningWorker, startWorker } from './worker.ts'
import { WorkerChannel } from './worker-channel.ts'

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => {})

const send = (message: ToPrimary): void => {
  // An error: the primary has ended.
  if (process.connected) process.send?.(message, () => {})
}
const channel = new WorkerChannel(send)
const config = parseConfig(process.env)
const log = createLog(config.logLevel).child({ worker: cluster.worker?.id })
let running: Promise<RunningWorker> | undefined
let isStopping = false

process.on('message', (message: ToWorker) => {
  if (message.kind === 'start') running = start(message.start)
  else if (message.kind === 'stop') void stop(message.leave)
  else channel.receive(message)
})
send({ kind: 'loaded' })

async function start(options: WorkerStart): Promise<RunningWorker> {
  try {
    const worker = await startWorker(config, options, channel, log)
    growYoungGeneration()
    send({ kind: 'listening', url: worker.url })
    return worker
  } catch (error) {
    const message = operatorMessageOf(error)
    if (message === undefined) log.error({ err: error }, 'a worker cannot start')
    send({ kind: 'failed', message: message ?? 'a worker cannot start; its log says why' })
    process.exitCode = 1
    setTimeout(() => process.exit(), 100)
    throw error
  }
}

async function stop(leave: Leave): Promise<void> {
  if (isStopping) return
  isStopping = true
  try {
    const worker = await running
    await worker?.close(leave)
  } catch (error) {
    log.error({ err: error }, 'closing a worker failed')
  }
  process.exit()
}
