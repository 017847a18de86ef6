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
