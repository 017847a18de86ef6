import { CommandError, STATUS } from './errors.ts'
import { sizeText } from './printing.ts'

/** Returns a signal that SIGINT and SIGTERM abort, so that long work saves its progress and ends. */
export function stopSignal(): AbortSignal {
  const controller = new AbortController()
  const stopped = new CommandError('stopped; run the command again to continue', {
    status: STATUS.stopped,
  })
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => controller.abort(stopped))
  }
  return controller.signal
}

const REPORT_EVERY_MILLISECONDS = 10_000

/** Returns a function that writes the progress to standard error, at most every 10 seconds. */
export function progressReporter(
  done: string,
): (report: { readonly blobs: number; readonly bytes: number }) => void {
  let reportedAt = Date.now()
  return ({ blobs, bytes }) => {
    if (Date.now() - reportedAt < REPORT_EVERY_MILLISECONDS) return
    reportedAt = Date.now()
    process.stderr.write(`${blobs} blobs, ${sizeText(bytes)} ${done}\n`)
  }
}
