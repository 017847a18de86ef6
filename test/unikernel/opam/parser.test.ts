import { describe, expect, it } from 'vitest'
import { MalformedOpamError } from '../../../src/unikernel/opam/lexer.ts'
import { parseOpam } from '../../../src/unikernel/opam/parser.ts'
import type { OpamItem, OpamValue } from '../../../src/unikernel/opam/value.ts'

/** A value on one line, with all decisions of the grammar visible. */
function shown(value: OpamValue): string {
  const all = (values: readonly OpamValue[]) => values.map(shown).join(' ')
  switch (value.kind) {
    case 'string':
      return JSON.stringify(value.value)
    case 'boolean':
    case 'integer':
    case 'identifier':
      return `${value.kind[0]}:${value.value}`
    case 'list':
    case 'group':
      return value.kind === 'list' ? `[${all(value.values)}]` : `(${all(value.values)})`
    case 'option':
      return `<${shown(value.value)} {${all(value.options)}}>`
    case 'logical':
      return `<${value.operands.map(shown).join(` ${value.operator} `)}>`
    case 'prefix':
      return `<${value.operator} ${shown(value.operand)}>`
    case 'update':
      return `<${shown(value.left)} ${value.operator} ${shown(value.right)}>`
    case 'relation': {
      const left = value.left ? `${shown(value.left)} ` : ''
      return `<${left}${value.operator} ${shown(value.right)}>`
    }
  }
}

function shownItem(item: OpamItem): string {
  if (item.kind === 'field') return `${item.name}: ${shown(item.value)}`
  const title = item.name === undefined ? '' : `${JSON.stringify(item.name)} `
  return `${item.type} ${title}{${item.items.map(shownItem).join('; ')}}`
}

const read = (source: string | Uint8Array) => parseOpam(source).map(shownItem).join('; ')
const problemOf = (source: string | Uint8Array) => {
  try {
    parseOpam(source)
  } catch (error) {
    if (error instanceof MalformedOpamError) return error
    throw error
  }
  return undefined
}

describe('a value of an opam file', () => {
  // The results of opam 2.1.2, as `opam show --just-file --raw -f x-a` prints them.
  it.each([
    ['true', 'b:true'],
    ['truely', 'i:truely'],
    ['-5', 'i:-5'],
    ['1_000', 'i:1000'],
    ['[1-1-1]', '[i:1 i:-1 i:-1]'],
    ['[1 -1 1a -a 0-a]', '[i:1 i:-1 i:1a i:-a i:0-a]'],
    ['_:name', 'i:_:name'],
    ['ocaml:native', 'i:ocaml:native'],
    ['0a+_+b:c', 'i:0a+_+b:c'],
    ['[]', '[]'],
    ['[[]]', '[[]]'],
    ['()', '()'],
    ['("a" 1)', '("a" i:1)'],
    ['"a" {b c}', '<"a" {i:b i:c}>'],
    ['a {}', '<i:a {}>'],
    ['a {x} {y}', '<<i:a {i:x}> {i:y}>'],
    ['["a"] {b}', '<["a"] {i:b}>'],
    ['[a = b = c]', '[<i:a = i:b> <= i:c>]'],
    ['[= a = b]', '[<= i:a> <= i:b>]'],
    ['>= "1" & < "2"', '<<>= "1"> & << "2">>'],
    ['a & b & c', '<i:a & i:b & i:c>'],
    ['a & b | c & d', '<<i:a & i:b> | <i:c & i:d>>'],
    ['(a | b) & c', '<(<i:a | i:b>) & i:c>'],
    ['a & b {x} | c', '<<i:a & <i:b {i:x}>> | i:c>'],
    ['[a | b c & d]', '[<i:a | i:b> <i:c & i:d>]'],
    ['! a = b', '<! <i:a = i:b>>'],
    ['!a {x}', '<! <i:a {i:x}>>'],
    ['! >= "1" {x}', '<! <<>= "1"> {i:x}>>'],
    ['!!a', '<! <! i:a>>'],
    ['? a & ! b', '<<? i:a> & <! i:b>>'],
    ['[!a & b c]', '[<<! i:a> & i:b> i:c]'],
    ['[a ! b]', '[i:a <! i:b>]'],
    ['"a" ~ "b"', '<"a" >= "b">'],
    ['a != b', '<i:a != i:b>'],
    ['[FOO = "x"]', '[<i:FOO = "x">]'],
    ['[FOO += "x"]', '[<i:FOO += "x">]'],
    ['[FOO =+ "x"]', '[<i:FOO =+ "x">]'],
    ['[FOO =+= "x"]', '[<i:FOO =+= "x">]'],
    ['FOO:="x"', '<i:FOO := "x">'],
    ['FOO =: "x"', '<i:FOO =: "x">'],
    ['(* a (* b *) " *) 1 # x', 'i:1'],
    ['1 (**)', 'i:1'],
    ['#\n1', 'i:1'],
    ['# (*\r\n\t1', 'i:1'],
  ])('%s', (text, wanted) => {
    expect(read(`x: ${text}`)).toBe(`x: ${wanted}`)
    expect(read(Buffer.from(`x: ${text}\nz: 0`))).toBe(`x: ${wanted}; z: i:0`)
  })
})

describe('a string of an opam file', () => {
  it.each([
    ['""', ''],
    ['"a\nb"', 'a\nb'],
    ['"a\\nb\\r\\t\\b\\\\\\"\\\'\\ c"', 'a\nb\r\t\b\\"\' c'],
    ['"\\065\\x42\\x4A\\x4a"', 'ABJJ'],
    ['"\\195\\xa9"', 'é'],
    ['"\\xe2\\\n  \\x82\\172"', '€'],
    ['"\\xff-\\xc3"', '\ufffd-\ufffd'],
    ['"\\xc3é"', '\ufffdé'],
    ['"\\000"', '\0'],
    ['"a\\\n \t b"', 'ab'],
    ['"a\\\r\n  b"', 'ab'],
    ['"a\\\n  \\  b"', 'a  b'],
    ['""""""', ''],
    ['"""a"b""c"""', 'a"b""c'],
    ['"""\\\na\\"""', undefined],
    ['"""\\\na\\""""', 'a"'],
    ['"""a\\"""\\"b"""', 'a""""b'],
    ['"(* # *)"', '(* # *)'],
    ['"%{a}%"', '%{a}%'],
    ['"päckage 🐫"', 'päckage 🐫'],
  ])('%j', (text, wanted) => {
    if (wanted === undefined) expect(problemOf(`x: ${text}`)).toBeDefined()
    else expect(read(`x: ${text}`)).toBe(`x: ${JSON.stringify(wanted)}`)
  })
})

describe('an opam file', () => {
  it.each([
    ['', ''],
    ['\r\n \t# no line end', ''],
    ['a: 1 b: 2 a: 3', 'a: i:1; b: i:2; a: i:3'],
    ['a : 1', 'a: i:1'],
    ['a {}', 'a {}'],
    ['a "b c" { d: 1 e { f "" {} } } g: 2', 'a "b c" {d: i:1; e {f "" {}}}; g: i:2'],
    ['a: b c {}', 'a: i:b; c {}'],
    ['a: b {c} d {}', 'a: <i:b {i:c}>; d {}'],
    ['a: (* *) "b" # c\n {d}', 'a: <"b" {i:d}>'],
  ])('%j', (text, wanted) => {
    expect(read(text)).toBe(wanted)
  })

  it('has the positions of all items', () => {
    const [field, section] = parseOpam('a:\n  ["b"\r\n\tc & d]\n(*\n*) e "f" {\n}')
    expect(field).toMatchObject({ line: 1, column: 1, value: { line: 2, column: 3 } })
    expect(field).toMatchObject({
      value: {
        values: [
          { line: 2, column: 4 },
          {
            line: 3,
            column: 2,
            operands: [
              { line: 3, column: 2 },
              { line: 3, column: 6 },
            ],
          },
        ],
      },
    })
    expect(section).toMatchObject({ line: 5, column: 4 })
  })

  it('may have invalid UTF-8 and NULs in strings and comments', () => {
    const bytes = Buffer.from('(*\xff\0*) a: "\xe9\0" b: 1', 'latin1')
    const [first, second] = parseOpam(bytes)
    expect(first).toMatchObject({ value: { value: '\ufffd\0' }, column: 8 })
    expect(second).toMatchObject({ name: 'b', column: 16 })
  })
})

describe('a malformed opam file is refused with a position:', () => {
  it.each([
    ['a', 1, 2, 'expected ":" or "{", found the end of the file'],
    ['a:', 1, 3, 'expected a value, found the end of the file'],
    ['a: 1\nb: "x" "y"', 2, 8, 'expected a field or a section, found the string "y"'],
    ['a:b', 1, 4, 'expected ":" or "{", found the end of the file'],
    ['a: (b) = c', 1, 8, 'expected a field or a section, found ='],
    ['a: b =', 1, 7, 'expected a value to compare with, found the end of the file'],
    ['a: b = [c]', 1, 8, 'expected a value to compare with, found ['],
    ['a: b += (c)', 1, 9, 'expected a value to set, found ('],
    ['a: & b', 1, 4, 'expected a value, found &'],
    ['a: !', 1, 5, 'expected a value, found the end of the file'],
    ['a: [b }', 1, 7, 'expected a value, found }'],
    ['a: 1\nb: [\n 1', 2, 4, 'the [ that begins here is not closed'],
    ['a: 1 {', 1, 6, 'the { that begins here is not closed'],
    ['a {\n b "c" {', 2, 2, 'the section that begins here does not end'],
    ['}', 1, 1, 'expected a field or a section, found }'],
    ['a "b" "c"', 1, 7, 'expected "{", found the string "c"'],
    ['"a": 1', 1, 1, 'expected a field or a section, found the string "a"'],
    ['true: 1', 1, 1, 'expected a field or a section, found the boolean "true"'],
    ['1: 1', 1, 1, 'expected a field or a section, found the integer "1"'],
    ['a: _', 1, 4, '"_" is not a valid integer'],
    ['a: _1', 1, 4, '"_1" is not a valid integer'],
    ['a: 9999999999999999999', 1, 4, '"9999999999999999999" is not a valid integer'],
    ['a: 4611686018427387904', 1, 4, '"4611686018427387904" is not a valid integer'],
    ['a: -4611686018427387905', 1, 4, '"-4611686018427387905" is not a valid integer'],
    ['a: -', 1, 4, 'unexpected "-"'],
    ['a: 1+1', 1, 5, 'unexpected "+"'],
    ['a: b =:= c', 1, 6, '=:= is not an operator'],
    ['a: ä', 1, 4, 'unexpected "ä"'],
    ['a: "ä🐫" 🐫', 1, 10, 'unexpected "🐫"'],
    ['a: b\rc: d', 1, 5, 'unexpected "\\r"'],
    ['a: \0', 1, 4, 'unexpected "\\u0000"'],
    ['\ufeffa: 1', 1, 1, 'unexpected "\ufeff"'],
    ['a:\n "b\nc', 2, 2, 'the string that begins here does not end'],
    ['a: """b""', 1, 4, 'the string that begins here does not end'],
    ['a: """b""""', 1, 11, 'the string that begins here does not end'],
    ['a: "b\n c\\q"', 2, 3, 'unknown escape in a string'],
    ['a: "\\256"', 1, 5, 'unknown escape in a string'],
    ['a: "\\xfg"', 1, 5, 'unknown escape in a string'],
    ['a: "\\12"', 1, 5, 'unknown escape in a string'],
    ['a: "\\', 1, 5, 'unknown escape in a string'],
    ['a: 1\n (* (* \n *)', 2, 2, 'the comment that begins here does not end'],
    ['(*)', 1, 1, 'the comment that begins here does not end'],
  ])('%j', (text, line, column, problem) => {
    for (const source of [text, Buffer.from(text)]) {
      expect(problemOf(source)).toMatchObject({ line, column })
      expect(problemOf(source)?.message).toBe(
        `malformed opam file: line ${line}, column ${column}: ${problem}`,
      )
    }
  })

  it('invalid UTF-8 outside of strings', () => {
    expect(problemOf(Buffer.from('a: "\xff"\n \xff', 'latin1'))).toMatchObject({
      line: 2,
      column: 2,
    })
  })
})
