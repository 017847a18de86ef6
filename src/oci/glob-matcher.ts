const BITS = 32
const STAR = '*'
const SLASH = '/'

/**
 * A compiled pattern. A state is a number of literal characters that have matched, a bit of `reached`; a star
 * keeps its state. All states advance together, 32 in one operation, so a text of 255 characters takes at most
 * 255 times 8 steps, for any pattern.
 */
export class GlobMatcher {
  readonly #words: number
  /** The states that the next character advances, by that character. */
  readonly #advancing = new Map<string, Uint32Array>()
  /** The states that a `**` and that any star keeps. */
  readonly #keepsAll: Uint32Array
  readonly #keepsName: Uint32Array
  readonly #last: number

  constructor(glob: string) {
    const tokens = glob.match(/\*+|[^*]/gs) ?? []
    const literals = tokens.filter((token) => !token.startsWith(STAR))
    this.#last = literals.length
    this.#words = Math.floor(this.#last / BITS) + 1
    this.#keepsAll = new Uint32Array(this.#words)
    this.#keepsName = new Uint32Array(this.#words)
    let state = 0
    for (const token of tokens) {
      if (token.startsWith(STAR)) {
        setBit(this.#keepsName, state)
        if (token.length > 1) setBit(this.#keepsAll, state)
      } else {
        const states = this.#advancing.get(token) ?? new Uint32Array(this.#words)
        setBit(states, state)
        this.#advancing.set(token, states)
        state += 1
      }
    }
  }

  /** True when the pattern matches the whole text. */
  matches(text: string): boolean {
    const reached = new Uint32Array(this.#words)
    setBit(reached, 0)
    for (let at = 0; at < text.length; at += 1) {
      const character = text.charAt(at)
      const kept = character === SLASH ? this.#keepsAll : this.#keepsName
      if (!this.#advance(reached, this.#advancing.get(character), kept)) return false
    }
    return hasBit(reached, this.#last)
  }

  /** Returns false when no state is left. */
  #advance(reached: Uint32Array, advancing: Uint32Array | undefined, kept: Uint32Array): boolean {
    let carry = 0
    let any = 0
    for (let word = 0; word < this.#words; word += 1) {
      const states = reached[word] ?? 0
      const moved = states & (advancing?.[word] ?? 0)
      const next = (moved << 1) | carry | (states & (kept[word] ?? 0))
      carry = moved >>> (BITS - 1)
      reached[word] = next
      any |= next
    }
    return any !== 0
  }
}

function setBit(words: Uint32Array, bit: number): void {
  const word = Math.floor(bit / BITS)
  words[word] = (words[word] ?? 0) | (1 << (bit % BITS))
}

function hasBit(words: Uint32Array, bit: number): boolean {
  return (((words[Math.floor(bit / BITS)] ?? 0) >>> (bit % BITS)) & 1) === 1
}
