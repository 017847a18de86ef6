import { type DerReader, invalidExec, TAGS } from './der.ts'

const UTC = /^(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})?(Z|[+-]\d{4})$/
const GENERALIZED = /^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})?(?:[.,](\d{1,12}))?(Z|[+-]\d{4})$/
/** Years of two digits below this are of this century (RFC 5280, section 4.1.2.5.1). */
const CENTURY_YEAR = 50

/** Reads a UTCTime or GeneralizedTime. Throws REQUEST_INVALID. */
export function parseDerTime(reader: DerReader, what: string): Date {
  if (reader.nextTag === TAGS.utcTime) {
    const [, year, ...rest] = UTC.exec(reader.content(TAGS.utcTime, what).toString('latin1')) ?? []
    if (year === undefined) throw invalidExec(`${what} is no time`)
    const [month, day, hour, minute, second, zone] = rest
    const century = Number(year) < CENTURY_YEAR ? '20' : '19'
    return dateOf(what, `${century}${year}`, month, day, hour, minute, second, undefined, zone)
  }
  const text = reader.content(TAGS.generalizedTime, what).toString('latin1')
  const [, year, month, day, hour, minute, second, fraction, zone] = GENERALIZED.exec(text) ?? []
  return dateOf(what, year, month, day, hour, minute, second, fraction, zone)
}

function dateOf(what: string, ...parts: readonly (string | undefined)[]): Date {
  const [year, month, day, hour, minute, second = '00', fraction = '0', zone = ''] = parts
  const offset = zone.replace(/^([+-]\d{2})(\d{2})$/, '$1:$2')
  const milliseconds = fraction.padEnd(3, '0').slice(0, 3)
  const text = `${year}-${month}-${day}T${hour}:${minute}:${second}.${milliseconds}${offset}`
  const date = new Date(text)
  // Date makes 3 March of 31 February.
  const isDay = new Date(`${year}-${month}-${day}T00:00:00Z`).getUTCDate() === Number(day)
  if (Number.isNaN(date.getTime()) || !isDay) throw invalidExec(`${what} is no time`)
  return date
}

/** Formats a time as GeneralizedTime, with milliseconds where it has some, as asn1-combinators does. */
export function generalizedTime(date: Date): string {
  const [whole = '', fraction = ''] = date
    .toISOString()
    .replace(/[-:TZ]/g, '')
    .split('.')
  return fraction === '000' ? `${whole}Z` : `${whole}.${fraction}Z`
}
