import { randomBytes } from 'node:crypto'

/** A UUID in lower case (RFC 9562, section 4), as text of a regular expression. */
export const UUID_PATTERN = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'

const UUID = new RegExp(`^${UUID_PATTERN}$`)

/** True for a UUID as it is stored: in lower case. */
export function isUuid(text: string): boolean {
  return UUID.test(text)
}

/** True for a UUID as a person may give it: in any case. */
export function isUuidInAnyCase(text: string): boolean {
  return UUID.test(text.toLowerCase())
}

/** Makes a UUID of version 7 (RFC 9562, section 5.7): later ones are greater, to the millisecond. */
export function newTimeOrderedUuid(now = Date.now()): string {
  const time = now.toString(16).padStart(12, '0')
  const random = randomBytes(10)
  random[0] = 0x70 | ((random[0] ?? 0) & 0x0f)
  random[2] = 0x80 | ((random[2] ?? 0) & 0x3f)
  return grouped(`${time}${random.toString('hex')}`)
}

function grouped(hex: string): string {
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** Returns a UUID as three numbers below 2^48, for an encrypted cursor. */
export function uuidNumbers(id: string): [number, number, number] {
  const hex = id.replaceAll('-', '')
  const numberAt = (from: number, to: number) => Number.parseInt(hex.slice(from, to), 16)
  return [numberAt(0, 12), numberAt(12, 24), numberAt(24, 32)]
}

/** Returns the UUID of the numbers of `uuidNumbers`; other numbers may give a text that is no UUID. */
export function uuidOfNumbers([first = 0, second = 0, third = 0]: readonly number[]): string {
  const hexOf = (number: number, digits: number) => number.toString(16).padStart(digits, '0')
  return grouped(`${hexOf(first, 12)}${hexOf(second, 12)}${hexOf(third, 8)}`)
}
