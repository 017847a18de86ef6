export type ArchiveErrorOptions = {
  /** `limit`: with higher limits the archive may be read. `node`: by another release of Node. Undefined: never. */
  readonly readableWith?: 'limit' | 'node'
  readonly cause?: unknown
}

/** An archive that cannot be read, or exceeds a limit. The message is one line: a clause with `it` for the archive. */
export class ArchiveError extends Error {
  override readonly name = 'ArchiveError'
  readonly readableWith: ArchiveErrorOptions['readableWith']

  constructor(problem: string, { readableWith, cause }: ArchiveErrorOptions = {}) {
    super(problem, { cause })
    this.readableWith = readableWith
  }
}
