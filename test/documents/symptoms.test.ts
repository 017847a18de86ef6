import { describe, expect, it } from 'vitest'
import { codeBelow } from '../house/tree.ts'
import { alerts } from '../metrics/expressions.ts'
import { listSymptoms, quoted } from './symptoms.ts'

const symptoms = listSymptoms()
/** Signs that other programs print. */
const OF_OTHERS = new Set([
  ...['too many clients already', 'InvalidAccessKeyId', 'ExpiredToken', 'AccessDenied'],
  ...['RequestTimeTooSkewed', 'http://', 'has invalid permissions'],
])
const METRIC = /^(?:rookery|process|nodejs)_\w+$/
const ALERT = /^Rookery[A-Z]\w+$/

describe('the symptoms of docs/operations.md', () => {
  it('have a cause and a remedy each', () => {
    expect(symptoms.length).toBeGreaterThan(50)
    const incomplete = symptoms.filter(({ cause, command }) => cause === '' || command === '')
    expect(incomplete).toEqual([])
  })

  it('are those of the alerts, and each alert names their part of the page', () => {
    const found = symptoms.flatMap(({ sign, anchor }) =>
      quoted(sign)
        .filter((text) => ALERT.test(text))
        .map((name) => `${name}: docs/operations.md#${anchor}`),
    )
    const wanted = alerts().map(({ of, runbook }) => `${of}: ${runbook}`)
    expect([...new Set(found)].sort()).toEqual(wanted.sort())
  })

  it('quote messages that the sources have', () => {
    const sources = codeBelow('src')
      .map(({ text }) => text)
      .join('\n')
    const signs = symptoms.flatMap(({ sign }) => quoted(sign))
    const messages = signs.filter(
      (text) => !ALERT.test(text) && !METRIC.test(text) && !text.startsWith('/'),
    )
    expect(messages.length).toBeGreaterThan(25)
    const unknown = messages.filter((text) => !sources.includes(text) && !OF_OTHERS.has(text))
    expect(unknown).toEqual([])
  })
})
