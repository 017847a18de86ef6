const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'] as const
const SHOWN_HEX = 12

/** Returns a count of bytes with three digits and a unit, such as `1.24 MiB`. */
export function bytesText(count: number): string {
  let value = count
  let unit = 0
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024
    unit += 1
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** Returns a time as `2026-11-30 06:50:12 UTC`. */
export function timeText(at: Date): string {
  return isoTimeText(at.toISOString())
}

/** Does the same for a time as `2026-11-30T06:50:12.345Z`. */
export function isoTimeText(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`
}

/** Returns the time between two moments, such as `2 min 5 s`. Undefined without both. */
export function durationText(from: Date | null, to: Date | null): string | undefined {
  if (from === null || to === null) return undefined
  const seconds = Math.max(0, Math.round((to.getTime() - from.getTime()) / 1000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** Returns the first characters of a digest, such as `sha256:0123456789ab`. */
export function shortDigest(digest: string): string {
  const colon = digest.indexOf(':')
  return digest.slice(0, colon + 1 + SHOWN_HEX)
}

/** Returns the first names of a list, and how many more there are. */
export function firstOf(names: readonly string[], max: number): string {
  const shown = names.slice(0, max).join(', ')
  return names.length > max ? `${shown} and ${names.length - max} more` : shown
}

/** Returns a number with its noun: `1 host`, `2 hosts`. `many` is the plural when it does not end with `s` only. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString('en')} ${count === 1 ? one : many}`
}
