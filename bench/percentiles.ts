/** Returns the value below which this part of `values` is; NaN without values. `part`: 0.99 for the p99. */
export function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(part * (sorted.length - 1))] ?? Number.NaN
}

/** Describes milliseconds by their distribution. */
export function describeTimes(times: readonly number[], digits = 1): string {
  const at = (part: number) => percentile(times, part).toFixed(digits)
  return `median ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${at(1)} ms (${times.length} measured)`
}
