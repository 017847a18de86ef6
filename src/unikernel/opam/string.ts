import { Buffer } from 'node:buffer'

/** A string of an opam file, or its problem. `lineStarts` are the starts of the lines in it. */
export type OpamString = { readonly lineStarts: readonly number[] } & (
  | {
      readonly problem?: undefined
      readonly value: string
      /** The offset after its last quote. */
      readonly at: number
    }
  | { readonly problem: string; readonly at: number }
)

const ESCAPED: Readonly<Record<string, string>> = {
  '\\': '\\',
  '"': '"',
  "'": "'",
  ' ': ' ',
  n: '\n',
  r: '\r',
  t: '\t',
  b: '\b',
}
const QUOTE = 0x22
const BACKSLASH = 0x5c
const NEW_LINE = 0x0a
const LAST_ASCII = 0x7f
const LAST_BYTE = 0xff

/**
 * Reads the string whose first quote is at `start`: opam manual, "General syntax". In three quotes,
 * one or two are text. A code such as `\xC3` is a byte, as in OCaml: adjacent bytes form characters
 * of UTF-8, and invalid ones become U+FFFD. Offsets are in UTF-16 units.
 */
export function readOpamString(text: string, start: number): OpamString {
  const quotes = text.startsWith('"""', start) ? '"""' : '"'
  const lineStarts: number[] = []
  const content = new Content()
  let at = start + quotes.length
  // Text in between is copied unchanged.
  let plain = at
  while (at < text.length) {
    const code = text.charCodeAt(at)
    if (code === QUOTE && text.startsWith(quotes, at)) {
      if (plain < at) content.add(text.slice(plain, at))
      return { value: content.text(), at: at + quotes.length, lineStarts }
    }
    if (code !== BACKSLASH) {
      at += 1
      if (code === NEW_LINE) lineStarts.push(at)
      continue
    }
    if (plain < at) content.add(text.slice(plain, at))
    const escaped = readEscape(text, at + 1)
    if (escaped === undefined) return { problem: 'unknown escape in a string', at, lineStarts }
    if (escaped.lineStart !== undefined) lineStarts.push(escaped.lineStart)
    if (escaped.byte !== undefined) content.addByte(escaped.byte)
    if (escaped.text !== undefined) content.add(escaped.text)
    at = escaped.at
    plain = at
  }
  return { problem: 'the string that begins here does not end', at: start, lineStarts }
}

/** The value of a string, as far as it was read. */
class Content {
  #text = ''
  /** Bytes that no text has followed yet. */
  #bytes: number[] = []

  add(text: string): void {
    if (this.#bytes.length > 0) this.#decode()
    this.#text += text
  }

  addByte(byte: number): void {
    this.#bytes.push(byte)
  }

  text(): string {
    if (this.#bytes.length > 0) this.#decode()
    return this.#text
  }

  #decode(): void {
    this.#text += Buffer.from(this.#bytes).toString('utf8')
    this.#bytes = []
  }
}

type Escape = {
  /** The offset after it. */
  readonly at: number
  readonly text?: string
  /** A byte that is not ASCII. */
  readonly byte?: number
  readonly lineStart?: number
}

/** Reads the escape after a backslash. Undefined when opam has no such escape. */
function readEscape(text: string, at: number): Escape | undefined {
  const character = text[at] ?? ''
  const escaped = Object.hasOwn(ESCAPED, character) ? ESCAPED[character] : undefined
  if (escaped !== undefined) return { at: at + 1, text: escaped }
  if (character === '\n' || text.startsWith('\r\n', at)) {
    const lineStart = at + (character === '\n' ? 1 : 2)
    let end = lineStart
    while (text[end] === ' ' || text[end] === '\t') end += 1
    return { at: end, lineStart }
  }
  const code = text.slice(at, at + 3)
  const byte = /^[0-9]{3}$/.test(code)
    ? Number.parseInt(code, 10)
    : /^x[0-9a-fA-F]{2}$/.test(code)
      ? Number.parseInt(code.slice(1), 16)
      : undefined
  if (byte === undefined || byte > LAST_BYTE) return undefined
  if (byte > LAST_ASCII) return { at: at + 3, byte }
  return { at: at + 3, text: String.fromCharCode(byte) }
}
