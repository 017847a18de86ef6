import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { EVENT_TYPES } from '../../src/events/event.ts'
import { validateEvent } from './event-schema.ts'

const SPEC = readFileSync(new URL('../../spec/events.md', import.meta.url), 'utf8')
const EXAMPLES = [...SPEC.matchAll(/```json event\n([\s\S]*?)```/g)].map((match) => match[1] ?? '')

it('has an example of each type, and every example is valid', () => {
  for (const example of EXAMPLES) validateEvent(example)
  const types = EXAMPLES.map((example) => JSON.parse(example).type)
  expect(types.sort()).toEqual([...EVENT_TYPES].sort())
})

it('describes each type in the table', () => {
  for (const type of EVENT_TYPES) expect(SPEC).toContain(`| \`${type}\` |`)
})

it.each([
  ['another type', (event: Example) => ({ ...event, type: 'image.burnt' })],
  ['no sequence', ({ sequence: _, ...event }: Example) => event],
  ['an unknown field', (event: Example) => ({ ...event, extra: 1 })],
  [
    'an unknown field of data',
    (event: Example) => ({ ...event, data: { ...event.data, extra: 1 } }),
  ],
  ['no digest', (event: Example) => ({ ...event, data: { ...event.data, digest: null } })],
])('refuses %s', (_, spoil) => {
  const [first = ''] = EXAMPLES
  expect(() => validateEvent(JSON.stringify(spoil(JSON.parse(first))))).toThrow('invalid event')
})

type Example = { sequence: string; data: object }
