import { ConfigError, parseConfig } from '../../config/config.ts'
import { EmbeddedPostgresError } from '../../embedded-postgres/supervisor.ts'
import { StartError } from '../../server/cleanup.ts'
import { createLog, type Log } from '../../server/log.ts'
import { startServer } from '../../server/server.ts'
import { type Command, parseOptions } from '../command.ts'
import { startBanner } from './start-banner.ts'

// Beyond the drain itself: closing the database and stopping the embedded Postgres.
const STOP_EXTRA_MILLISECONDS = 15_000

/** `rookery serve`: runs until SIGTERM or SIGINT. */
export const serveCommand: Command = {
  words: ['serve'],
  usage: '',
  summary: 'Start the registry',
  run(args, environment) {
    parseOptions(args, {})
    return serve(environment)
  },
}

async function serve(environment: NodeJS.ProcessEnv): Promise<number> {
  try {
    const config = parseConfig(environment)
    const log = createLog(config.logLevel)
    const ending = new Ending(log)
    const server = await startServer(config, log, (error) => ending.lost(error))
    const { url, adminPassword: credential } = server
    process.stdout.write(startBanner({ url, publicUrl: config.publicUrl, credential }))
    const status = await ending.status
    giveUpAfter(config.drainSeconds * 1000 + STOP_EXTRA_MILLISECONDS, log)
    await server.close()
    log.info({}, 'stopped')
    return status
  } catch (error) {
    if (!isForOperators(error)) throw error
    process.stderr.write(`rookery: ${error.message}\n`)
    return 1
  }
}

/** Why the process ends: asked to, or because it cannot go on. */
class Ending {
  /** The exit status, once it is known that the process ends. */
  readonly status: Promise<number>
  readonly #log: Log
  #end: (status: number) => void = () => {}

  constructor(log: Log) {
    this.#log = log
    this.status = new Promise((resolve) => {
      this.#end = resolve
    })
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        log.info({ signal }, 'stopping')
        this.#end(0)
      })
    }
  }

  lost(error: Error): void {
    this.#log.error({ err: error }, 'the embedded Postgres is gone')
    this.#end(1)
  }
}

function giveUpAfter(milliseconds: number, log: Log): void {
  setTimeout(() => {
    log.error({ milliseconds }, 'stopping took too long')
    process.exit(1)
  }, milliseconds).unref()
}

function isForOperators(error: unknown): error is Error {
  return (
    error instanceof ConfigError ||
    error instanceof StartError ||
    error instanceof EmbeddedPostgresError
  )
}
