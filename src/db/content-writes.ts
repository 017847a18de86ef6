/** The tables from which pulls are answered. The triggers of schema/0032-remembered-answers.sql are on the same. */
export const CONTENT_TABLES = [
  'repositories',
  'tags',
  'manifests',
  'blobs',
  'repository_blobs',
] as const

const TABLE = `(?:only\\s+)?(?:public\\.)?(?:${CONTENT_TABLES.join('|')})\\b`
const CHANGE = `\\btruncate\\b|\\b(?:update|delete\\s+from|merge\\s+into)\\s+${TABLE}`
const UPSERT = `\\binsert\\s+into\\s+${TABLE}.*\\bdo\\s+update\\b`
/** Also for Postgres, whose `\y` is `\b` here. */
export const CONTENT_CHANGE = `${CHANGE}|${UPSERT}`
const PATTERN = new RegExp(CONTENT_CHANGE, 'is')

/** True when the statement may change or remove content that a pull found before. A new row does not. */
export function changesContent(text: string): boolean {
  return PATTERN.test(text)
}

/** Says whether answers may be remembered. */
export interface Content {
  /**
   * To be read at each lookup: a number as long as what the database answers to pulls stays the same, another one after a
   * change, and undefined while that is unknown. An answer is true as long as the number is that from before its question.
   */
  readonly version: number | undefined
}

/** The writes of this process that change content, so that no answer is remembered that one of them makes old. */
export class ContentWrites {
  #open = 0
  #version = 0
  /** Called when nobody knows whether a write was committed, or will be. */
  onUnknownEnd: () => void = () => {}

  /** A number that is another one after each write; undefined while one runs. */
  get version(): number | undefined {
    return this.#open === 0 ? this.#version : undefined
  }

  /** Others may have changed content. */
  invalidate(): void {
    this.#version += 1
  }

  /** To be called before the first statement that changes content is sent. */
  begin(): void {
    this.#open += 1
    this.#version += 1
  }

  /** To be called when the transaction has ended. `isKnown`: Postgres said how. */
  end(isKnown: boolean): void {
    this.#open -= 1
    if (!isKnown) this.onUnknownEnd()
  }
}
