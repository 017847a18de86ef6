/** A refusal that an operator can mend; `message` is one line that says what is wrong, and what to do. */
export class EmbeddedPostgresError extends Error {
  override readonly name: string = 'EmbeddedPostgresError'
}

/** Another process holds the folder; its Postgres must be left alone. */
export class OwnedByAnotherError extends EmbeddedPostgresError {}

/** What was thrown, as one line of text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
