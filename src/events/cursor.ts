/** A position in the order of all events, as clients keep it: with the first eight digits of the epoch. */
export type Cursor = { readonly epoch: string; readonly position: number }

const CURSOR = /^([0-9a-f]{8})-(\d{1,15})$/

/** Returns undefined for a text that is no cursor. */
export function tryParseCursor(text: string): Cursor | undefined {
  const [, epoch, position] = CURSOR.exec(text) ?? []
  return epoch === undefined ? undefined : { epoch, position: Number(position) }
}

/** Returns the text of a cursor, such as `1a2b3c4d-123`. */
export function formatCursor({ epoch, position }: Cursor): string {
  return `${epoch}-${position}`
}
