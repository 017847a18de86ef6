import { type Option, parsed } from './command.ts'
import { UsageError } from './errors.ts'

const DAY_SECONDS = 86_400
const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: DAY_SECONDS }
const DURATION = /^(\d{1,10})([smhd]?)$/
// With its zone: a shell on another machine must read the same moment.
const TIME = /^\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d))?$/
const AWAY_SECONDS_MAX = 100 * 366 * DAY_SECONDS

/** An option with a duration such as `15m`, in seconds. */
export function durationOption(
  description: string,
  secondsMax: number,
): Option<number | undefined> {
  const option = parsed('DURATION', description, (flag, text) =>
    parseDuration(flag, text, secondsMax),
  )
  return { ...option, details: [`such as 90s, 15m, 12h; at most ${durationText(secondsMax)}`] }
}

/** Seconds of a duration such as `15m`, `12h`, `30d`, `900s` or `900`. Throws UsageError. */
export function parseDuration(flag: string, text: string, secondsMax: number): number {
  const seconds = secondsOf(text)
  if (seconds === undefined || seconds < 1 || seconds > secondsMax) {
    throw new UsageError(
      `${flag} must be a duration such as 90s, 15m, 12h or 30d, at most ${durationText(secondsMax)}, not "${text}"`,
    )
  }
  return seconds
}

/** A time, or a duration from now. Throws UsageError. */
export function parseUntil(flag: string, text: string, now = new Date()): Date {
  return parseMoment(flag, text, now, 1)
}

/** A time, or a duration before now. Throws UsageError. */
export function parseSince(flag: string, text: string, now = new Date()): Date {
  return parseMoment(flag, text, now, -1)
}

/** A duration in the largest unit that expresses it exactly. */
export function durationText(seconds: number): string {
  const units = Object.entries(UNITS).reverse()
  const [unit, size] = units.find(([, one]) => seconds % one === 0) ?? ['s', 1]
  return `${seconds / size}${unit}`
}

function parseMoment(flag: string, text: string, now: Date, direction: 1 | -1): Date {
  const seconds = secondsOf(text)
  if (seconds !== undefined && seconds >= 1 && seconds <= AWAY_SECONDS_MAX) {
    return new Date(now.getTime() + direction * seconds * 1000)
  }
  const time = new Date(text)
  if (!TIME.test(text) || !isDay(text.slice(0, 10)) || Number.isNaN(time.getTime())) {
    throw new UsageError(
      `${flag} must be a duration such as 12h or 30d, or a time such as 2030-01-31T12:00:00Z, not "${text}"`,
    )
  }
  return time
}

function secondsOf(text: string): number | undefined {
  const match = DURATION.exec(text)
  if (match === null) return undefined
  return Number(match[1]) * (UNITS[match[2] || 's'] ?? 1)
}

/** JavaScript reads the 31st of February as a day in March. */
function isDay(text: string): boolean {
  const day = new Date(`${text}T00:00:00Z`)
  return !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text)
}
