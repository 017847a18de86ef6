import { readPage } from '../house/tree.ts'

export const SYMPTOMS_PAGE = 'docs/operations.md'

/** A row of a table of symptoms; the cells are Markdown. */
export type Symptom = {
  /** The anchor of its heading. */
  readonly anchor: string
  readonly sign: string
  readonly cause: string
  readonly command: string
}

const ROW = /^\| (.+?) \| (.+) \| (.+) \|$/gm

/** Lists the rows of all tables of symptoms. */
export function listSymptoms(): Symptom[] {
  const [, after = ''] = readPage(SYMPTOMS_PAGE).split('\n## Symptoms\n')
  const [symptoms = ''] = after.split('\n## ')
  const [, ...parts] = symptoms.split('\n### ')
  return parts.flatMap((part) => {
    const [title = ''] = part.split('\n')
    const anchor = title
      .toLowerCase()
      .replace(/[^a-z0-9 -]/g, '')
      .replaceAll(' ', '-')
    return [...part.matchAll(ROW)]
      .filter(([, sign]) => sign !== 'sign' && sign !== '---')
      .map(([, sign = '', cause = '', command = '']) => ({ anchor, sign, cause, command }))
  })
}

/** Lists the texts in backticks of a cell. */
export function quoted(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text)
}
