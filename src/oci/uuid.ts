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
