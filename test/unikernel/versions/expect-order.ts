import { expect } from 'vitest'

type Order = (a: string, b: string) => number

/** Each is before all that follow it. */
export function expectAscending(versions: readonly string[], order: Order): void {
  for (const [i, a] of versions.entries()) {
    for (const [j, b] of versions.entries()) {
      expect(shown(a, b, order(a, b))).toBe(shown(a, b, i - j))
    }
  }
}

/** All are equal. */
export function expectSameOrder(versions: readonly string[], order: Order): void {
  for (const a of versions) {
    for (const b of versions) expect(shown(a, b, order(a, b))).toBe(shown(a, b, 0))
  }
}

/** A fact such as `1.0 < 1.1`, checked in both directions. */
export function expectOrder(fact: string, order: Order): void {
  const [a = '', sign = '', b = ''] = fact.split(' ')
  const wanted = ['<', '=', '>'].indexOf(sign) - 1
  expect(shown(a, b, order(a, b))).toBe(shown(a, b, wanted))
  expect(shown(b, a, order(b, a))).toBe(shown(b, a, -wanted))
}

function shown(a: string, b: string, order: number): string {
  return `${a} ${order < 0 ? '<' : order > 0 ? '>' : '='} ${b}`
}
