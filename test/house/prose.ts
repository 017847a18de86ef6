import type { Source } from './architecture.ts'

/**
 * A piece of a file that a person reads: a comment, a message, a title, a paragraph or a table
 * cell.
 */
export type Passage = {
  readonly path: string
  readonly line: number
  readonly kind: 'comment' | 'doc comment' | 'string' | 'paragraph'
  readonly text: string
}

const TOKEN = new RegExp(
  [
    String.raw`(?<comment>(?:\/\/[^\n]*(?:\n[ \t]*(?=\/\/))?)+|\/\*[\s\S]*?\*\/)`,
    String.raw`(?<string>'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|${'`'}(?:\\.|[^${'`'}\\])*${'`'})`,
    String.raw`(?<regex>(?<=(?:[(,=:[!&|?{};]|\breturn|=>)\s*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*)`,
  ].join('|'),
  'g',
)

const lineAt = (text: string, index: number): number => text.slice(0, index).split('\n').length

function commentText(comment: string): string {
  return comment
    .replace(/^\/\*+|\*+\/$/g, '')
    .replace(/^[ \t]*(?:\/\/|\*)[ \t]?/gm, '')
    .replace(/\s+/g, ' ')
    .trim()
}

/** The code before a title: a call of the runner, or the begin of a row of `each`. */
const TITLE = /(?:\b(?:it|test|describe)(?:\.\w+)*|\])\)?\(\s*$|\n {2,6}\[$/

/** Returns comments and prose in strings of TypeScript; with `titlesOnly`, of the strings only a test's titles. */
export function passagesOfCode({ path, text }: Source, titlesOnly: boolean): Passage[] {
  const found: Passage[] = []
  for (const { index, groups = {}, 0: token } of text.matchAll(TOKEN)) {
    const line = lineAt(text, index)
    if (groups.comment !== undefined) {
      const kind = token.startsWith('/**') ? 'doc comment' : 'comment'
      found.push({ path, line, kind, text: commentText(token) })
    } else if (groups.string !== undefined) {
      const inner = token.slice(1, -1)
      const before = text.slice(Math.max(0, index - 40), index)
      if (titlesOnly ? TITLE.test(before) : isProse(inner)) {
        found.push({ path, line, kind: 'string', text: inner.replace(/\s+/g, ' ').trim() })
      }
    }
  }
  return found
}

/** SQL has a rule of its own, and reads like no sentence. */
const SQL =
  /^\s*(?:select|insert|update|delete|with|create|alter|drop|set|lock|copy|listen|begin)\s/

function isProse(text: string): boolean {
  return /[A-Za-z]{2,} [A-Za-z]/.test(text) && !SQL.test(text)
}

/** Names and other text of TypeScript, without what stands in regular expressions. */
export function withoutExpressions(text: string): string {
  return text.replace(TOKEN, (token, ...rest) => {
    const { regex } = rest.at(-1) as { regex?: string }
    return regex === undefined ? token : token.replace(/[^\n]/g, ' ')
  })
}

/** Paragraphs, list items, headings and table cells of Markdown, without code. */
export function passagesOfMarkdown({ path, text }: Source): Passage[] {
  const found: { line: number; text: string }[] = []
  let fenced = false
  let open = false
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.replace(/^\s*>\s?/, '')
    if (/^\s*(?:```|~~~)/.test(line)) {
      fenced = !fenced
      open = false
    } else if (fenced || line.trim() === '') open = false
    else if (/^\s*\|/.test(line)) {
      for (const cell of line.split(/(?<!\\)\|/)) found.push({ line: index + 1, text: cell.trim() })
      open = false
    } else if (!open || /^\s*(?:#+|[-*+]|\d+\.)\s/.test(line)) {
      found.push({ line: index + 1, text: line.replace(/^\s*(?:#+|[-*+]|\d+\.)\s+/, '') })
      open = !/^\s*#/.test(line)
    } else {
      const last = found.at(-1)
      if (last !== undefined) last.text += ` ${line.trim()}`
    }
  }
  return found
    .filter((passage) => passage.text !== '')
    .map((passage) => ({ path, kind: 'paragraph', ...passage }))
}

/** Returns values and comments of YAML or JSON, one for each key. */
export function passagesOfYaml({ path, text }: Source): Passage[] {
  const found: { line: number; text: string }[] = []
  for (const [index, line] of text.split('\n').entries()) {
    const value = /^\s*(?:- )*(?:["']?[\w$./{}-]+["']?:(?:\s+|$)|- |#\s?)(.*)$/.exec(line)?.[1]
    const last = found.at(-1)
    if (value !== undefined || last === undefined) {
      found.push({ line: index + 1, text: (value ?? line).replace(/^["'>|-]+\s*/, '') })
    } else last.text += ` ${line.trim()}`
  }
  return found
    .filter((passage) => isProse(passage.text))
    .map((passage) => ({ path, kind: 'paragraph', ...passage }))
}

/** Returns the comments of shell, SQL and nginx, one for each paragraph. */
export function passagesOfComments({ path, text }: Source): Passage[] {
  const found: { line: number; text: string }[] = []
  let open = false
  for (const [index, line] of text.split('\n').entries()) {
    const comment = /^\s*(?:#(?!!)|--)\s?(.*)$/.exec(line)?.[1]
    const last = found.at(-1)
    if (comment === undefined || comment === '') open = false
    else if (open && last !== undefined) last.text += ` ${comment}`
    else {
      found.push({ line: index + 1, text: comment })
      open = true
    }
  }
  return found.map((passage) => ({ path, kind: 'comment', ...passage }))
}

/** Returns the passages of a file, by its kind. */
export function passagesOf(source: Source): Passage[] {
  const { path } = source
  if (/\.(?:ts|mjs)$/.test(path)) return passagesOfCode(source, path.startsWith('test/'))
  if (path.endsWith('.md')) return passagesOfMarkdown(source)
  if (/\.(?:yaml|json)$/.test(path)) return passagesOfYaml(source)
  return passagesOfComments(source)
}

/** A pattern that plain sentences do not have, and advice. */
type Pattern = readonly [pattern: RegExp, advice: string]

const OPENING = String.raw`(?:^|(?<=[.!?:;]["')]*\s+))[_"'(]*`

const PATTERNS: readonly Pattern[] = [
  [
    new RegExp(`${OPENING}(?:What|Who|Whom|Whose|Those|Of|So) [a-z\`][^.?!]*(?:[.!]|$)`),
    'begin with the noun or the verb',
  ],
  [/\bwho(?:m)?ever\b|\bwh(?:at|ich)ever\b/i, 'name the person or the thing'],
  [/\black(?:s|ed|ing)?\b/i, 'say missing, or has no'],
  [/\b(?:can|could|cannot|may) (?:not )?be (?:seen|heard|told|had)\b/i, 'use the active voice'],
  [/\b(?:stands?|lies|fares?)\b/i, 'say is, or say what happens'],
  [/\b(?:told|tells?|telling|hears?|heard)\b/i, 'say notify, receive, report or state'],
]

/** Lists sentences that are not plain technical English. */
export function crookedSentences(passages: readonly Passage[]): string[] {
  return passages.flatMap(({ path, line, kind, text }) => {
    // Code in backticks counts as one word, and bold text as plain.
    const prose = text.replace(/`[^`]*`/g, '`code`').replaceAll('**', '')
    const found = PATTERNS.flatMap(([pattern, advice]): [string, string][] => {
      const match = pattern.exec(prose)
      return match === null ? [] : [[match[0], advice]]
    })
    // A lower-case first word is a mistake unless it is a name such as `in-toto` or `e_machine`.
    if (kind === 'doc comment' && /^[a-z]+(?: |$)/.test(prose)) {
      found.push([prose, 'begin with a capital letter'])
    }
    return found.map(([words, advice]) => `${path}:${line} "${words.slice(0, 60)}": ${advice}`)
  })
}
