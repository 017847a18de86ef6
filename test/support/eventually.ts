import { vi } from 'vitest'

/** Time for a check to pass: a busy machine takes longer than the second of `vi.waitFor`. */
const LIMITS = { timeout: 30_000, interval: 20 }

/** Repeats a check until it throws nothing, and returns its result. */
export function eventually<T>(check: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(check, LIMITS)
}
