const QUOTE = 0x22
const BACKSLASH = 0x5c

// The meaning of a byte outside of text. A table is ten times as fast as comparisons with a Set.
const OTHER = 0
const SEPARATES = 1
const OPENS = 2
const CLOSES = 3
const QUOTES = 4
const MEANINGS = new Uint8Array(256)
for (const [characters, meaning] of [
  [',', SEPARATES],
  ['[{', OPENS],
  [']}', CLOSES],
  ['"', QUOTES],
] as const) {
  for (const character of characters) MEANINGS[character.charCodeAt(0)] = meaning
}

/** The bounds of a JSON text. */
export type JsonBounds = {
  /** Lists and objects inside each other. */
  readonly depthMax: number
  /** Members of all objects and entries of all lists together. */
  readonly valuesMax: number
  /** Bytes that are not in text: numbers, spaces and punctuation. */
  readonly plainBytesMax: number
}

/**
 * Finds the bound that a JSON text exceeds, as the end of a sentence; undefined when it exceeds none.
 * Scans bytes without parsing them, and stops at the first excess: to parse 8 MiB of nested lists or of
 * short members takes seconds, to scan them milliseconds. Says nothing about other errors in the text.
 */
export function findJsonExcess(
  bytes: Uint8Array,
  { depthMax, valuesMax, plainBytesMax }: JsonBounds,
): string | undefined {
  let depth = 0
  let values = 0
  let plainBytes = 0
  for (let at = 0; at < bytes.length; at += 1) {
    // All bytes with a meaning are below 0x80, so none is a part of another character in UTF-8.
    const meaning = MEANINGS[bytes[at] ?? 0]
    plainBytes += 1
    if (plainBytes > plainBytesMax) return `has more than ${plainBytesMax} bytes outside of text`
    if (meaning === OTHER) continue
    if (meaning === QUOTES) {
      at = endOfText(bytes, at)
      continue
    }
    if (meaning === CLOSES) {
      depth -= 1
      continue
    }
    // The first value of a list or an object has no comma before it.
    values += 1
    if (values > valuesMax) return `has more than ${valuesMax} values`
    if (meaning === OPENS) depth += 1
    if (depth > depthMax) return `is nested deeper than ${depthMax} levels`
  }
  return undefined
}

/** Returns the place of the closing quote, or the end of the bytes. */
function endOfText(bytes: Uint8Array, start: number): number {
  for (let at = start + 1; at < bytes.length; at += 1) {
    const byte = bytes[at]
    if (byte === QUOTE) return at
    if (byte === BACKSLASH) at += 1
  }
  return bytes.length
}
