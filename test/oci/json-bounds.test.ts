import { expect, it } from 'vitest'
import { findJsonExcess } from '../../src/oci/json-bounds.ts'

const bounds = { depthMax: 3, valuesMax: 5, plainBytesMax: 40 }
const excess = (text: string) => findJsonExcess(Buffer.from(text), bounds)

it.each([
  ['{}'],
  ['[[[]]]'],
  ['{"a":[1,2,3]}'],
  ['"[[[[[[ , , , , , , ,"'],
  [String.raw`["\"[[[[", "\\", "{{{{\\\""]`],
  ['["ééé[[[[", "\u{1f600}"]'],
])('%s is within the bounds', (text) => {
  expect(excess(text)).toBeUndefined()
})

it.each([
  ['[[[[]]]]', 'is nested deeper than 3 levels'],
  ['{"a":{"b":{"c":{}}}}', 'is nested deeper than 3 levels'],
  ['[1,2,3,4,5,6]', 'has more than 5 values'],
  ['{"a":1,"a":1,"a":1,"a":1,"a":1,"a":1}', 'has more than 5 values'],
  [String.raw`["\\",[[[]]]]`, 'is nested deeper than 3 levels'],
  [`[${' '.repeat(40)}]`, 'has more than 40 bytes outside of text'],
  [`[${'1'.repeat(40)}]`, 'has more than 40 bytes outside of text'],
])('%s exceeds a bound', (text, expected) => {
  expect(excess(text)).toBe(expected)
})

it('an unfinished text ends the scan', () => {
  expect(excess('["[[[[[[[[')).toBeUndefined()
  expect(excess('["\\')).toBeUndefined()
})
