/** The part of a program that a symbol belongs to. */
export type Owner =
  /** A compilation unit of OCaml, such as `Dns__Packet`. */
  | { readonly kind: 'unit'; readonly unit: string }
  /** A function or a variable in C or assembler. */
  | { readonly kind: 'runtime' | 'solo5' | 'c'; readonly symbol: string }

// ocamlopt begins the names of a unit with `caml` and a capital letter: Compilenv.make_symbol. The names of its runtime
// begin with `caml_`.
const UNIT = /^caml[A-Z]/
// Between a unit and a name: `__` until OCaml 5.0, `.` since 5.1, `$` on systems that allow no dot.
const MARKS = ['code_begin', 'code_end', 'data_begin', 'data_end', 'frametable'] as const
// More parts than a name of a real module has.
const PARTS_MAX = 16

/** Finds the owners of symbols by their names. */
export class SymbolOwners {
  readonly #units = new Set<string>()

  /** `names`: of all symbols. Each unit has symbols at the beginnings and ends of its parts, which show its name. */
  constructor(names: Iterable<string>) {
    for (const name of names) {
      if (!UNIT.test(name)) continue
      const mark = MARKS.find((one) => name.endsWith(one))
      if (mark === undefined) continue
      const before = name.slice(0, -mark.length)
      if (/[.$]$/.test(before)) this.#units.add(before.slice(4, -1))
      else if (before.endsWith('__')) this.#units.add(before.slice(4, -2))
    }
  }

  ownerOf(symbol: string): Owner {
    if (UNIT.test(symbol)) return { kind: 'unit', unit: this.#unitOf(symbol.slice(4)) }
    if (/^_?caml[_a-z]/.test(symbol)) return { kind: 'runtime', symbol }
    return { kind: /^_*solo5_/.test(symbol) ? 'solo5' : 'c', symbol }
  }

  #unitOf(name: string): string {
    // A `$` may also begin the code of a character, as in `k$27` for k'.
    const dotted = /^[^.$]*(?=[.$])/.exec(name)?.[0]
    for (const whole of [name, dotted]) {
      if (whole !== undefined && this.#units.has(whole)) return whole
    }
    const last = name.lastIndexOf('__')
    if (last <= 0) return dotted ?? name
    let cut = last
    for (let parts = 0; cut > 0 && parts < PARTS_MAX; parts += 1) {
      const unit = name.slice(0, cut)
      if (this.#units.has(unit)) return unit
      cut = name.lastIndexOf('__', cut - 1)
    }
    // A program without the marks.
    return dotted !== undefined && name.charAt(dotted.length) === '.' ? dotted : name.slice(0, last)
  }
}

/** True for a symbol that only marks the end of a part. */
export function isEnd(symbol: string): boolean {
  return symbol.endsWith('_end')
}

/** Returns the library of a unit: dune puts its name and two underscores before the names of its modules. */
export function libraryOf(unit: string): string {
  const [library = ''] = unit.split('__', 1)
  if (library !== 'Dune') return library === '' ? unit : library
  // An executable has no name: its modules begin with Dune__exe.
  return unit.startsWith('Dune__exe') ? 'Dune__exe' : library
}

/** Returns the name of a unit in its library. */
export function moduleOf(unit: string, library: string): string {
  const name = unit.startsWith(`${library}__`) ? unit.slice(library.length + 2) : unit
  return name === '' ? unit : name
}
