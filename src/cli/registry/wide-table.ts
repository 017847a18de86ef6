import { table, visible } from '../printing.ts'

/** A table whose last column is longer than columns may be, such as a digest. */
export function wideTable(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
): string[] {
  const heads = table(
    headings.slice(0, -1),
    rows.map((row) => row.slice(0, -1)),
  )
  const width = Math.max(...heads.map(({ length }) => length))
  const last = [headings.at(-1) ?? '', ...rows.map((row) => visible(row.at(-1) ?? ''))]
  return heads.map((line, index) => `${line.padEnd(width)}  ${last[index]}`.trimEnd())
}
