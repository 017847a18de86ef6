import { visibleJson } from '../oci/hidden-characters.ts'

/** Writes one JSON value on a line of its own. */
export function printJson(value: unknown): void {
  write(`${visibleJson(value)}\n`)
}

/** Writes values as JSON, one on a line. Resolves when the system has them, and to false when nobody reads them any more. */
export function deliverJsonLines(values: readonly unknown[]): Promise<boolean> {
  const text = values.map((value) => `${visibleJson(value)}\n`).join('')
  return new Promise((resolve) => write(text, (error) => resolve(!error)))
}

/** Writes lines of text. */
export function printLines(lines: readonly string[]): void {
  write(lines.map((line) => `${line}\n`).join(''))
}

/** Writes a value as JSON, or the same as lines of text. */
export function printResult(json: boolean, value: unknown, lines: readonly string[]): void {
  if (json) printJson(value)
  else printLines(lines)
}

/** Writes a table, or one line when it has no rows. */
export function printTable(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
): void {
  printLines(rows.length === 0 ? [NO_ROWS] : table(headings, rows))
}

const NO_ROWS = 'There are none.'
const WIDTH_MAX = 48

/** Rows under their headings, in columns. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const cells = [headings, ...rows.map((row) => row.map(visible))]
  const widths = headings.map((_, column) =>
    Math.max(...cells.map((row) => Math.min(row[column]?.length ?? 0, WIDTH_MAX))),
  )
  return cells.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

/** A time in UTC to the second, such as 2026-11-29T14:03:11Z. Takes a time of the API as well. */
export function utcText(time: Date | string): string {
  return `${(typeof time === 'string' ? time : time.toISOString()).slice(0, 19)}Z`
}

/** A size with a unit, such as 1.5 MiB. */
export function sizeText(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`
}

/**
 * Text from others, such as the user name of a stranger, fit for a terminal: control characters and
 * characters that turn the direction of writing are replaced.
 */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\uFFFD')
}

/** Writes to standard output. Ignores that the reader of a pipe ended, as `head` does. */
export function write(text: string, written?: (error?: Error | null) => void): void {
  if (process.stdout.listenerCount('error') === 0) {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  }
  process.stdout.write(text, written)
}
