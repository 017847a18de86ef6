import { withoutHiddenCharacters } from '../oci/hidden-characters.ts'

// ECMA-48: control sequences, strings that end with BEL or ST, and other sequences of ESC. C1 controls as one character.
const ESCAPE_SEQUENCES =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?/g
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]/g

/**
 * Returns the text that a program printed, as lines for people: without terminal escapes, control characters and
 * characters that hide or reorder text. Tabs and ends of lines stay.
 */
export function plainText(text: string): string {
  const lines = text.replace(/\r\n?/g, '\n')
  return withoutHiddenCharacters(lines.replace(ESCAPE_SEQUENCES, '').replace(CONTROLS, ''))
}

/** Returns the text as one line. */
export function plainLine(text: string): string {
  return plainText(text).replace(/\s+/g, ' ').trim()
}
