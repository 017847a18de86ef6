/** The log of the supervisor, for operators; a pino logger implements it. */
export type Log = {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}
