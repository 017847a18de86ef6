import { fileURLToPath } from 'node:url'
import { changesContent } from './content-writes.ts'

/** A statement under the name by which a connection prepares it once. */
export type NamedStatement = {
  readonly name: string
  readonly text: string
  /** True when it may change content that a pull found before. */
  readonly changesContent: boolean
}

const FRAMES_MAX = 25
// Postgres cuts names of more than 63 bytes.
const NAME_CHARACTERS_MAX = 50
/** Without a function of src/db among the callers. */
const UNKNOWN = 'statement'
const FOLDER = new URL('.', import.meta.url)
/** A stack trace has paths or URLs, as the code was loaded. */
const FOLDERS = [FOLDER.href, fileURLToPath(FOLDER)]
const FUNCTION = /^\s*at (?:async )?(?:[\w$]+\.)*(?:#?)([\w$]+) (?:\[as \w+\] )?\(/
const FIRST_WORD = /^\s*\w+/
/** Functions that pass the statements of others on. */
const FORWARDERS: ReadonlySet<string> = new Set([
  ...['findSender', 'nameStatement', 'send', 'query', 'repeated', 'run'],
  ...['transaction', 'transactionOnce', 'queryOnce'],
])

/**
 * The statements of one database, by their texts. The name of a statement is that of the function of src/db that sent it
 * first, with a number when the function has several texts, because a connection needs one name for each text. The
 * text gets the name as a comment, which pg_stat_activity and pg_stat_statements show: after its first word, because
 * Postgres cuts long texts, and leaves out a comment before the statement. The stack is read once for each text.
 */
export class StatementNames {
  readonly #statements = new Map<string, NamedStatement>()
  readonly #counts = new Map<string, number>()

  /** Returns the statement of a text. To be called by the functions that send it, without a wait between them. */
  nameStatement(text: string): NamedStatement {
    const cached = this.#statements.get(text)
    if (cached !== undefined) return cached
    const sender = findSender()
    const count = (this.#counts.get(sender) ?? 0) + 1
    this.#counts.set(sender, count)
    const name = count === 1 ? sender : `${sender}_${count}`
    const named = {
      name,
      text: text.replace(FIRST_WORD, (word) => `${word} /* ${sender} */`),
      changesContent: changesContent(text),
    }
    this.#statements.set(text, named)
    return named
  }
}

/** Returns the name of the function of src/db that sends a statement. */
function findSender(): string {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = FRAMES_MAX
  const { stack = '' } = new Error()
  Error.stackTraceLimit = stackTraceLimit
  for (const frame of stack.split('\n')) {
    if (!FOLDERS.some((folder) => frame.includes(folder))) continue
    const name = FUNCTION.exec(frame)?.[1]
    if (name === undefined || FORWARDERS.has(name)) continue
    return name.slice(0, NAME_CHARACTERS_MAX)
  }
  return UNKNOWN
}
