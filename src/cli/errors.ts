/**
 * Exit statuses: success; a check found something, or a deployment failed; the command failed; the time for a deployment ran
 * out; a newer deployment replaced it; stopped by a signal.
 */
export const STATUS = {
  ...{ ok: 0, found: 1, failed: 2, timedOut: 3, superseded: 4 },
  stopped: 130,
} as const

/** The command line is wrong. The message is one line. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** A failure that the user can mend. The message is one line that says how. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly status: number

  constructor(message: string, options: ErrorOptions & { readonly status?: number } = {}) {
    super(message, options)
    this.status = options.status ?? STATUS.failed
  }
}

/** The reason for which the operating system or a library refused, in its words. */
export function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause)
}
