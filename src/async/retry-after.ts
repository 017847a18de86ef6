const DAY = '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)'
const LONG_DAY = '(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)'
const MONTH = '(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)'
const TIME = '[0-2]\\d:[0-5]\\d:[0-6]\\d'
// RFC 9110, section 5.6.7: a recipient accepts all three.
const IMF_FIXDATE = new RegExp(`^${DAY}, \\d{2} ${MONTH} \\d{4} ${TIME} GMT$`)
const RFC_850_DATE = new RegExp(`^${LONG_DAY}, \\d{2}-${MONTH}-\\d{2} ${TIME} GMT$`)
const ASCTIME_DATE = new RegExp(`^${DAY} ${MONTH} [ \\d]\\d ${TIME} \\d{4}$`)

/**
 * Parses a Retry-After header: whole seconds, or an HTTP date (RFC 9110, section 10.2.3). Returns
 * seconds, 0 for a date in the past, and undefined for anything else. The caller limits the wait.
 */
export function parseRetryAfter(
  header: string | readonly string[] | undefined,
  now: Date,
): number | undefined {
  const text = (typeof header === 'string' ? header : header?.[0])?.trim()
  if (text === undefined) return undefined
  if (/^\d{1,9}$/.test(text)) return Number(text)
  const at = parseHttpDate(text)
  return at === undefined ? undefined : Math.max(0, Math.ceil((at - now.getTime()) / 1000))
}

function parseHttpDate(text: string): number | undefined {
  const isWithZone = IMF_FIXDATE.test(text) || RFC_850_DATE.test(text)
  if (!isWithZone && !ASCTIME_DATE.test(text)) return undefined
  const at = Date.parse(isWithZone ? text : `${text} GMT`)
  return Number.isNaN(at) ? undefined : at
}
