import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino'

export type Log = Logger

/** JSON lines for operators, on standard error; standard output is for people. */
export function createLog(level: string, destination?: DestinationStream): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // What clients send to be let in never reaches a log.
      redact: ['authorization', '*.authorization', 'password', '*.password'],
    },
    destination ?? pino.destination({ fd: 2, sync: true }),
  )
}
