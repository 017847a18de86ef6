import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino'

export type Log = Logger

/** Creates the log: JSON lines on standard error, because standard output is for people. */
export function createLog(level: string, destination?: DestinationStream): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // Credentials of clients never reach a log.
      redact: ['authorization', '*.authorization', 'password', '*.password'],
    },
    destination ?? pino.destination({ fd: 2, sync: true }),
  )
}
