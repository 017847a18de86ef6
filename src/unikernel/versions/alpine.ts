import { compareNumbers, compareText } from './numbers.ts'

type Kind =
  | 'first'
  | 'number'
  | 'letter'
  | 'before'
  | 'after'
  | 'count'
  | 'commit'
  | 'build'
  | 'other'
  | 'end'

/**
 * The kinds of parts in ascending order, for versions that continue with different kinds: `1.0_rc1`
 * is before `1.0`, then come `1.0-r1`, `1.0~8c3f`, `1.0_p1`, `1.0a` and `1.0.1`.
 */
const ORDER: readonly Kind[] = [
  'before',
  'other',
  'end',
  'build',
  'commit',
  'count',
  'after',
  'letter',
  'number',
  'first',
]

// Suffixes of pre-releases, and of patches, in ascending order.
const BEFORE = ['alpha', 'beta', 'pre', 'rc']
const AFTER = ['cvs', 'svn', 'git', 'hg', 'p']

/** The text of each kind, at the end of the previous part. */
const PATTERNS = {
  number: /\.([0-9]+)/y,
  letter: /([a-z])/y,
  before: new RegExp(`_(${BEFORE.join('|')})(?![a-z])`, 'y'),
  after: new RegExp(`_(${AFTER.join('|')})(?![a-z])`, 'y'),
  count: /([0-9]+)/y,
  commit: /~([0-9a-f]+)/y,
  build: /-r([0-9]+)/y,
}
type Pattern = keyof typeof PATTERNS

/** The kinds that may follow a part. */
const ENDING = ['commit', 'build'] as const
const SUFFIXED = ['before', 'after', ...ENDING] as const
const NEXT: Readonly<Record<Exclude<Kind, 'other' | 'end'>, readonly Pattern[]>> = {
  first: ['number', 'letter', ...SUFFIXED],
  number: ['number', 'letter', ...SUFFIXED],
  letter: SUFFIXED,
  before: ['count', ...SUFFIXED],
  after: ['count', ...SUFFIXED],
  count: SUFFIXED,
  commit: ['build'],
  build: [],
}

type Part = { readonly kind: Kind; readonly text: string; readonly end: number }

/**
 * Orders versions of Alpine: negative when `a` is before `b`, 0 when apk has them as equal, else
 * positive. apk-package(5): `number{.number}{letter}{_suffix{number}}{~commit}{-rN}`. After a dot,
 * a number with a leading zero is compared as text. Accepts any text, in linear time: a character
 * that versions do not allow ends the version, just before its end, and is compared as text.
 */
export function compareAlpineVersions(a: string, b: string): number {
  let left = firstPart(a)
  let right = firstPart(b)
  for (;;) {
    const difference = ORDER.indexOf(left.kind) - ORDER.indexOf(right.kind)
    const order = difference === 0 ? compareSame(left, right) : difference
    if (order !== 0 || left.kind === 'other' || left.kind === 'end') return order
    left = nextPart(a, left)
    right = nextPart(b, right)
  }
}

/** Compares parts of one kind. */
function compareSame(a: Part, b: Part): number {
  switch (a.kind) {
    case 'before':
      return BEFORE.indexOf(a.text) - BEFORE.indexOf(b.text)
    case 'after':
      return AFTER.indexOf(a.text) - AFTER.indexOf(b.text)
    case 'number':
      return a.text.startsWith('0') || b.text.startsWith('0')
        ? compareText(a.text, b.text)
        : compareNumbers(a.text, b.text)
    case 'first':
    case 'count':
    case 'build':
      return compareNumbers(a.text, b.text)
    default:
      return compareText(a.text, b.text)
  }
}

function firstPart(version: string): Part {
  return readPart(version, 0, 'count', 'first') ?? rest(version, 0)
}

function nextPart(version: string, { kind, end }: Part): Part {
  if (end === version.length) return { kind: 'end', text: '', end }
  if (kind === 'other' || kind === 'end') return rest(version, end)
  for (const next of NEXT[kind]) {
    const part = readPart(version, end, next, next)
    if (part) return part
  }
  return rest(version, end)
}

function readPart(version: string, start: number, pattern: Pattern, kind: Kind): Part | undefined {
  const expression = PATTERNS[pattern]
  expression.lastIndex = start
  const [whole, text] = expression.exec(version) ?? []
  if (whole === undefined || text === undefined) return undefined
  return { kind, text, end: start + whole.length }
}

function rest(version: string, start: number): Part {
  return { kind: 'other', text: version.slice(start), end: version.length }
}
