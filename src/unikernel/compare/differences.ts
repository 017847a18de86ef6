import { type Ecosystem, versionOrder } from '../versions/orders.ts'

/** A value on both sides. */
export type ValueChange<T> = { readonly from: T; readonly to: T }

/** Items on one side only, and items that changed, each in the order of keys. */
export type Differences<T, C> = {
  readonly added: readonly T[]
  readonly removed: readonly T[]
  readonly changed: readonly C[]
}

/**
 * Compares two lists by the unique keys of their items. `change` describes how an item changed;
 * undefined when it did not. Linear, except for sorting the differences.
 */
export function differences<T, C>(
  from: readonly T[],
  to: readonly T[],
  keyOf: (item: T) => string,
  change: (from: T, to: T) => C | undefined,
): Differences<T, C> {
  const before = byKey(from, keyOf)
  const after = byKey(to, keyOf)
  const changed = new Map<string, C>()
  for (const [key, item] of after) {
    const was = before.get(key)
    const found = was === undefined ? undefined : change(was, item)
    if (found !== undefined) changed.set(key, found)
  }
  return {
    added: inOrder([...after].filter(([key]) => !before.has(key))),
    removed: inOrder([...before].filter(([key]) => !after.has(key))),
    changed: inOrder([...changed]),
  }
}

function byKey<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T> {
  return new Map(items.map((item) => [keyOf(item), item]))
}

/** Only differences are sorted: they are few. */
function inOrder<T>(keyed: readonly (readonly [string, T])[]): T[] {
  return keyed.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).map(([, item]) => item)
}

/**
 * Returns the direction of a version change; undefined when the ecosystem has both as equal, or it
 * is unknown.
 */
export function directionOf(
  ecosystem: Ecosystem | undefined,
  from: string,
  to: string,
): 'upgrade' | 'downgrade' | undefined {
  const order = ecosystem === undefined ? 0 : versionOrder(ecosystem)(from, to)
  if (order === 0) return undefined
  return order < 0 ? 'upgrade' : 'downgrade'
}

/** True for the same strings in the same order. */
export function equalTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, index) => text === b[index])
}
