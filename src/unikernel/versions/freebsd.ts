import { compareNumbers, digitsEnd, isDigit, isLetter } from './numbers.ts'

// Stage names that count as the letter with this number, if they are alone: `pl` is before all.
const STAGES = { pl: 0, alpha: 1, beta: 2, pre: 16, rc: 18, snap: 19 } as const
const STAGE = /(pl|alpha|beta|pre|rc|snap)(?![a-z])/iy

/** Before every number. */
const NONE = -1
/** `*`, which is before everything. */
const LEAST = -2

/** A number, or NONE or LEAST. Numbers are text, because they may be long. */
type Count = typeof NONE | typeof LEAST | string

/** A number, a letter (`a` is 1, none is 0) and a patch level, such as 10b2. */
type Component = { readonly number: Count; readonly letter: number; readonly patch: Count }

// A missing component at the end of a version equals this: 1 is 1.0.
const ZERO: Component = { number: '', letter: 0, patch: '' }

/**
 * Orders versions of FreeBSD: negative when `a` is before `b`, 0 when pkg has them as equal (`1.0`,
 * `1.0.0` and `1.0_0,0`), else positive. pkg-version(8) and the porter's handbook, 5.2:
 * `version_revision,epoch`; the epoch counts more than the version, and that more than the
 * revision. Accepts any text, in linear time; a `-` separates numbers, as all other marks do.
 */
export function compareFreebsdVersions(a: string, b: string): number {
  const [left, right] = [splitVersion(a), splitVersion(b)]
  return (
    compareNumbers(left.epoch, right.epoch) ||
    compareComponents(left.version, right.version) ||
    compareNumbers(left.revision, right.revision)
  )
}

function splitVersion(text: string) {
  const line = text.lastIndexOf('_')
  // An epoch comes after the revision, if there is one.
  const comma = text.lastIndexOf(',')
  const epoch = comma > line ? numberAt(text, comma + 1) : ''
  const end = line !== -1 ? line : comma !== -1 ? comma : text.length
  const revision = line === -1 ? '' : numberAt(text, line + 1)
  return { epoch, version: text.slice(0, end), revision }
}

function numberAt(text: string, start: number): string {
  return text.slice(start, digitsEnd(text, start))
}

/**
 * Compares components in groups that are separated by `+`; in each, the shorter one is padded with
 * zeros.
 */
function compareComponents(a: string, b: string): number {
  const [left, right] = [new Components(a), new Components(b)]
  while (!left.isAtEnd || !right.isAtEnd) {
    const [one, other] = [left.next(), right.next()]
    if (one === undefined && other === undefined) {
      left.skipPlus()
      right.skipPlus()
      continue
    }
    const order = compareComponent(one ?? ZERO, other ?? ZERO)
    if (order !== 0) return order
  }
  return 0
}

function compareComponent(a: Component, b: Component): number {
  return compareCounts(a.number, b.number) || a.letter - b.letter || compareCounts(a.patch, b.patch)
}

function compareCounts(a: Count, b: Count): number {
  if (typeof a === 'string' && typeof b === 'string') return compareNumbers(a, b)
  return (typeof a === 'string' ? 0 : a) - (typeof b === 'string' ? 0 : b)
}

/** Reads one component after the other. */
class Components {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  get isAtEnd(): boolean {
    return this.#at === this.#text.length
  }

  /** Returns the next component of the group; undefined after its last. */
  next(): Component | undefined {
    if (this.isAtEnd || this.#isAt('+')) return undefined
    const number = this.#number()
    const { letter, patch } = this.#letter(number === NONE)
    while (!this.isAtEnd && !this.#isAtComponent()) this.#at += 1
    return { number, letter, patch }
  }

  skipPlus(): void {
    if (this.#isAt('+')) this.#at += 1
  }

  #number(): Count {
    if (!this.#isAt('*')) return this.#digits()
    // Text after a `*` is ignored.
    const plus = this.#text.indexOf('+', this.#at)
    this.#at = plus === -1 ? this.#text.length : plus
    return LEAST
  }

  #digits(): Count {
    const start = this.#at
    this.#at = digitsEnd(this.#text, start)
    return start === this.#at ? NONE : this.#text.slice(start, this.#at)
  }

  /**
   * Returns the first letter of a word and the number after it. A stage begins a component of its
   * own.
   */
  #letter(isFirst: boolean): Omit<Component, 'number'> {
    const start = this.#at
    STAGE.lastIndex = start
    const word = STAGE.exec(this.#text)?.[1]?.toLowerCase() ?? ''
    if (!isLetter(this.#text.charCodeAt(start)) || (isStage(word) && !isFirst)) {
      return { letter: ZERO.letter, patch: ZERO.patch }
    }
    while (isLetter(this.#text.charCodeAt(this.#at))) this.#at += 1
    const letter = isStage(word) ? STAGES[word] : (this.#text.charCodeAt(start) | 0x20) - 0x60
    return { letter, patch: this.#digits() }
  }

  #isAt(character: string): boolean {
    return this.#text[this.#at] === character
  }

  #isAtComponent(): boolean {
    const code = this.#text.charCodeAt(this.#at)
    return isDigit(code) || isLetter(code) || this.#isAt('+') || this.#isAt('*')
  }
}

function isStage(word: string): word is keyof typeof STAGES {
  return Object.hasOwn(STAGES, word)
}
