/** A place among all events, as clients keep it: the epoch's first eight digits, and the position. */
export type Cursor = { readonly epoch: string; readonly position: number }

const CURSOR = /^([0-9a-f]{8})-(\d{1,15})$/

/** Undefined for what is no cursor. */
export function tryParseCursor(text: string): Cursor | undefined {
  const [, epoch, position] = CURSOR.exec(text) ?? []
  return epoch === undefined ? undefined : { epoch, position: Number(position) }
}

/** Such as `1a2b3c4d-123`. */
export function formatCursor({ epoch, position }: Cursor): string {
  return `${epoch}-${position}`
}
