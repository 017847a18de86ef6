import { resolve } from 'node:path'
import { type Config, parseConfig } from '../../config/config.ts'
import { connectionLimits } from '../../server/connection-limits.ts'
import { createLog, type Log } from '../../server/log.ts'
import { growYoungGeneration, keepYoungGenerationSmall } from '../../server/young-generation.ts'
import { command } from '../command.ts'
import { CommandError, STATUS } from '../errors.ts'
import { write } from '../printing.ts'
import { watchLauncher } from './launcher.ts'
import { operatorMessageOf } from './operator-errors.ts'
import { startBanner } from './start-banner.ts'

// In addition to the drain: closing the database and stopping the embedded Postgres.
const STOP_EXTRA_MILLISECONDS = 15_000
const STATUS_NOT_STARTED = 1
const LEAVE_MILLISECONDS = 500

/** SIGHUP: its terminal was closed, or an operator wants other workers. */
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const

/** `rookery serve`: runs until a signal, or until the npm that started it ends. */
export const serveCommand = command({
  notes:
    'Environment variables configure it (docs/settings.md); none is required. It runs until SIGTERM or SIGINT. SIGHUP replaces its workers; on a terminal it ends the server. On a terminal it logs only warnings and errors, unless ROOKERY_LOG_LEVEL is set.',
  examples: [
    ['rookery serve', 'start on 127.0.0.1:5000 with data in ./data'],
    ['ROOKERY_LISTEN=0.0.0.0:5000 rookery serve', 'accept connections from other machines'],
  ],
  async run(_, environment) {
    try {
      return await serve(environment)
    } catch (error) {
      const message = operatorMessageOf(error)
      if (message === undefined) throw error
      throw new CommandError(message, { cause: error, status: STATUS_NOT_STARTED })
    }
  },
})

async function serve(environment: NodeJS.ProcessEnv): Promise<number> {
  const config = parseConfig(environment)
  const log = createLog(logLevel(config.logLevel, environment))
  const ending = new Ending(log)
  watchLauncher(environment, () =>
    ending.request({}, 'npm, which started the server, has ended: stopping'),
  )
  // First, because the modules of the server already need more open files than a low limit allows.
  await connectionLimits(config)
  keepYoungGenerationSmall()
  // Loaded here, so that help does not load the server.
  const start = await loadStart(config)
  const server = await start(config, log, (error) => ending.lost(error), ending.signal).catch(
    (error: unknown) => {
      // A failure after the request to stop, such as that of an initdb that got the same signal.
      if (!ending.signal.aborted) throw error
    },
  )
  if (server === undefined) {
    log.info({}, 'stopped')
    // An attempt to connect may hang in the network.
    setTimeout(() => process.exit(), LEAVE_MILLISECONDS).unref()
    return ending.status
  }
  growYoungGeneration()
  const { url, adminPassword } = server
  const onTerminal = process.stdout.isTTY === true
  const { publicUrl } = config
  const dataFolder = resolve(config.dataFolder)
  write(startBanner({ url, publicUrl, dataFolder, adminPassword, onTerminal }))
  if (server.reload !== undefined) ending.reloadBy(server.reload)
  const status = await ending.status
  const seconds = config.drainDelaySeconds + config.drainSeconds
  exitAfter(seconds * 1000 + STOP_EXTRA_MILLISECONDS, log)
  await server.close()
  log.info({}, 'stopped')
  return status
}

async function loadStart({ workers }: Config) {
  if (workers === 1) return (await import('../../server/server.ts')).startServer
  return (await import('../../server/workers/primary.ts')).startPrimary
}

/** A process with a terminal gets SIGHUP when it is closed. */
function hasTerminal(): boolean {
  return [process.stdin, process.stdout, process.stderr].some(({ isTTY }) => isTTY)
}

/** On a terminal, lines of JSON would hide the banner. */
function logLevel(configured: string, { ROOKERY_LOG_LEVEL }: NodeJS.ProcessEnv): string {
  return process.stderr.isTTY && ROOKERY_LOG_LEVEL === undefined ? 'warn' : configured
}

/** The end of the process: on request, or because it cannot continue. */
class Ending {
  /** The exit status, once the process ends. */
  readonly status: Promise<number>
  readonly #log: Log
  readonly #requested = new AbortController()
  #end: (status: number) => void = () => {}
  #reload = async () =>
    this.#log.warn({}, 'there is no worker that SIGHUP can replace: the server goes on')

  constructor(log: Log) {
    this.#log = log
    this.status = new Promise((resolve) => {
      this.#end = resolve
    })
    const reloads = !hasTerminal()
    for (const signal of SIGNALS) {
      process.on(signal, () => {
        if (signal === 'SIGHUP' && reloads) void this.#reload()
        else this.request({ signal }, 'stopping')
      })
    }
  }

  /** What SIGHUP does from now on, without a terminal. */
  reloadBy(reload: () => Promise<void>): void {
    this.#reload = reload
  }

  /** Aborted by the first request. */
  get signal(): AbortSignal {
    return this.#requested.signal
  }

  /** Ends the process in order. Only the first request is logged. */
  request(fields: { signal?: string }, message: string): void {
    if (this.signal.aborted) return
    this.#requested.abort(new Error('the start was stopped'))
    this.#log.info(fields, message)
    this.#end(STATUS.ok)
  }

  lost(error: Error): void {
    this.#log.error({ err: error }, 'the embedded Postgres stopped')
    this.#end(1)
  }
}

function exitAfter(milliseconds: number, log: Log): void {
  setTimeout(() => {
    log.error({ milliseconds }, 'stopping took too long')
    process.exit(1)
  }, milliseconds).unref()
}
