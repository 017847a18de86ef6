/** Writes one JSON value, on a line of its own. */
export function printJson(value: unknown): void {
  write(`${JSON.stringify(value)}\n`)
}

/** Writes lines for people. */
export function printLines(lines: readonly string[]): void {
  write(lines.map((line) => `${line}\n`).join(''))
}

/** Rows under their headings, in columns. */
export function columns(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
): string[] {
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

const WIDTH_MAX = 48

/** A moment in UTC, to the second. */
export function utcText(moment: Date): string {
  return `${moment.toISOString().slice(0, 19)}Z`
}

/**
 * What others chose, such as the user that a stranger sent, fit for a terminal: no control
 * characters, and none that turn the direction of writing.
 */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '\uFFFD')
}

/** Whoever reads may stop, as `head` does: that is no failure. */
function write(text: string): void {
  if (process.stdout.listenerCount('error') === 0) {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  }
  process.stdout.write(text)
}
