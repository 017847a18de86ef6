/** A position in an opam file. */
export type Position = {
  /** From 1. */
  readonly line: number
  /** From 1, in UTF-16 units, as editors and the language server protocol count. */
  readonly column: number
}

/** Compares a variable or a version with something: opam manual, "Package Formulas". */
export type RelationalOperator = '=' | '!=' | '<' | '<=' | '>' | '>='

/** Changes a variable of the environment: opam manual, "Environment updates". `=` is a relation. */
export type UpdateOperator = '+=' | '=+' | '=+=' | ':=' | '=:'

/** An atom in opam's terms: a value without parts. */
export type OpamAtom = Position &
  (
    | { readonly kind: 'boolean'; readonly value: boolean }
    /** Rounded beyond 53 bits, where opam has 63. */
    | { readonly kind: 'integer'; readonly value: number }
    | { readonly kind: 'string'; readonly value: string }
    /** Also of a package, such as `ocaml:native`, or of several, such as `a+b:installed`. */
    | { readonly kind: 'identifier'; readonly value: string }
  )

/** A value of a field: opam manual, "General syntax". */
export type OpamValue =
  | OpamAtom
  | (Position &
      (
        | { readonly kind: 'list'; readonly values: readonly OpamValue[] }
        /** In parentheses. */
        | { readonly kind: 'group'; readonly values: readonly OpamValue[] }
        /** A value and its options in braces. */
        | {
            readonly kind: 'option'
            readonly value: OpamValue
            readonly options: readonly OpamValue[]
          }
        /** Two or more operands: `a & b & c` is one conjunction. */
        | {
            readonly kind: 'logical'
            readonly operator: '&' | '|'
            readonly operands: readonly OpamValue[]
          }
        /** `left` is undefined in front of a version, such as `>= "4.08"`. */
        | {
            readonly kind: 'relation'
            readonly operator: RelationalOperator
            readonly left: OpamAtom | undefined
            readonly right: OpamAtom
          }
        | {
            readonly kind: 'update'
            readonly operator: UpdateOperator
            readonly left: OpamAtom
            readonly right: OpamAtom
          }
        /** Negation, or "is defined". */
        | { readonly kind: 'prefix'; readonly operator: '!' | '?'; readonly operand: OpamValue }
      ))

/** `name: value` */
export type OpamField = Position & {
  readonly kind: 'field'
  readonly name: string
  readonly value: OpamValue
}

/** `type { items }` or `type "name" { items }` */
export type OpamSection = Position & {
  readonly kind: 'section'
  readonly type: string
  readonly name: string | undefined
  readonly items: readonly OpamItem[]
}

/** An item of an opam file. */
export type OpamItem = OpamField | OpamSection
