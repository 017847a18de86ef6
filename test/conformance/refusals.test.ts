import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { ERRORS } from '../../src/oci/errors.ts'

const TABLE = readFileSync(new URL('../../spec/refusals.md', import.meta.url), 'utf8')
const NAMED = [...TABLE.matchAll(/\b([45]\d\d) ([A-Z_]{4,})\b|\b([A-Z_]{4,}) \((\d{3})\b/g)].map(
  ([, status = '', code = '', otherCode = '', otherStatus = '']) =>
    `${status || otherStatus} ${code || otherCode}`,
)

it('every status of a refusal is in the table that compares it with other registries', () => {
  const refusals = Object.entries(ERRORS)
    .filter(([, [status]]) => status < 500)
    .map(([code, [status]]) => `${status} ${code}`)
  expect(refusals.filter((one) => !NAMED.includes(one))).toEqual([])
  expect([...new Set(NAMED)].filter((one) => !refusals.includes(one))).toEqual([])
})
