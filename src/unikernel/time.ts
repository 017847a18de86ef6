// Everything except the number of days in the month.
const TIME =
  /^(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/

/** True for a time such as `2026-05-20T18:07:42Z` (RFC 3339, section 5.6) on an existing day. */
export function isTime(text: string): boolean {
  const [, year, month, day] = (TIME.exec(text) ?? []).map(Number)
  if (year === undefined || month === undefined) return false
  return new Date(Date.UTC(year, month - 1, day)).getUTCDate() === day
}
