/** A failure that an operator can fix. `message` is one line that states the problem and the fix. */
export class EmbeddedPostgresError extends Error {
  override readonly name: string = 'EmbeddedPostgresError'
}

/** Another process owns the folder and its Postgres. */
export class OwnedByAnotherError extends EmbeddedPostgresError {}

/** Returns the message of an error, or a thrown value as text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

// The messages of the system calls, which Postgres and Node report, in any case.
const TEMPORARY =
  /no space left on device|quota exceeded|read-only file system|i\/o error|input\/output error|cannot allocate memory|out of memory|too many open files|resource temporarily unavailable/i

/** True when Postgres can start later without a change of its data or settings: the disk is full, or memory is short. */
export function isTemporary(error: unknown): boolean {
  return TEMPORARY.test(messageOf(error))
}
