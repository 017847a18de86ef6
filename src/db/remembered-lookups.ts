import { LRUCache } from 'lru-cache'
import { entriesMax } from '../async/entries-max.ts'
import type { Content } from './content-writes.ts'

type Remembered<Answer> = { readonly answer: Answer; readonly version: number }

export type LookupOptions<Question, Answer> = {
  /** Asks the database. */
  load(question: Question): Promise<Answer>
  /** Questions with the same key have the same answer. */
  keyOf(question: Question): string
  /** True when the answer was found: nothing else is remembered, because a new row changes it. */
  isFound(answer: Answer): boolean
  /** Returns the answer as it is now, or undefined when the remembered one is not enough. */
  recall(answer: Answer, question: Question): Answer | undefined
  readonly answersMax: number
}

/** Remembers found answers as long as the content stays the same. */
export class RememberedLookups<Question, Answer extends object> {
  readonly #content: Content
  readonly #options: LookupOptions<Question, Answer>
  readonly #answers: LRUCache<string, Remembered<Answer>>

  constructor(content: Content, options: LookupOptions<Question, Answer>) {
    this.#content = content
    this.#options = options
    this.#answers = new LRUCache(entriesMax(options.answersMax))
  }

  /** Throws what `load` throws. */
  async load(question: Question): Promise<Answer> {
    const { version } = this.#content
    if (version === undefined) return this.#options.load(question)
    const key = this.#options.keyOf(question)
    const remembered = this.#answers.get(key)
    if (remembered?.version === version) {
      const answer = this.#options.recall(remembered.answer, question)
      if (answer !== undefined) return answer
    }
    const answer = await this.#options.load(question)
    // Under one number from before the statement until after it.
    if (this.#options.isFound(answer) && this.#content.version === version) {
      this.#answers.set(key, { answer, version })
    }
    return answer
  }
}
