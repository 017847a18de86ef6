import { digitsEnd, isDigit, isLetter } from './numbers.ts'

const ZERO = 0x30
const TILDE = 0x7e

/**
 * Orders parts of a version as opam and Debian do: alternately text without digits, and digits as a
 * number, to the end of both (Debian policy, 5.6.12). Accepts any text.
 */
export function compareParts(a: string, b: string): number {
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    for (;;) {
      const [left, right] = [weight(a.charCodeAt(i)), weight(b.charCodeAt(j))]
      if (left !== right) return left - right
      if (left === 0) break
      i += 1
      j += 1
    }
    while (a.charCodeAt(i) === ZERO) i += 1
    while (b.charCodeAt(j) === ZERO) j += 1
    const [endA, endB] = [digitsEnd(a, i), digitsEnd(b, j)]
    if (endA - i !== endB - j) return endA - i - (endB - j)
    for (; i < endA; i += 1, j += 1) {
      const difference = a.charCodeAt(i) - b.charCodeAt(j)
      if (difference !== 0) return difference
    }
  }
  return 0
}

// Beyond any code of a letter, so that other characters come after letters.
const BEHIND_LETTERS = 0x10000

/** `~` is before the end, digits equal the end, then come letters, then all others. */
function weight(code: number): number {
  if (Number.isNaN(code) || isDigit(code)) return 0
  if (code === TILDE) return -1
  return isLetter(code) ? code : code + BEHIND_LETTERS
}
