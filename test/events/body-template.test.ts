import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  findTemplateProblem,
  renderBodyTemplate,
  TEMPLATE_BYTES_MAX,
  TEMPLATE_DEPTH_MAX,
  TEMPLATE_VARIABLES_MAX,
  typesOfTemplate,
  VARIABLES,
} from '../../src/events/body-template.ts'
import { EVENT_BYTES_MAX } from '../../src/events/cloud-event.ts'

const SPEC = readFileSync(new URL('../../spec/events.md', import.meta.url), 'utf8')
const EXAMPLES = [...SPEC.matchAll(/```json event\n([\s\S]*?)```/g)].map(({ 1: text = '' }) => text)

type Event = { type: string; id: string; time: string; data: Record<string, unknown> }
const events = EXAMPLES.map((text) => JSON.parse(text) as Event)
const update = events.find(({ type }) => type === 'image.tag.updated') as Event

const render = (template: unknown, event: Event = update): unknown =>
  JSON.parse(renderBodyTemplate(JSON.stringify(template), JSON.stringify(event)))

describe('a template of a body', () => {
  it('gets the values of the event in its strings, and nothing else changes', () => {
    const { id, time, data } = update
    const template = {
      event_type: '{{type}}',
      image: '{{registry}}/{{repository}}:{{tag}}@{{digest}}',
      list: ['{{id}}', '{{time}}', 7, -0.5, true, null, {}, []],
      nested: { text: 'a}} {b} {{tag}}{{tag}}', __proto__: 'own' },
    }
    expect(render(template)).toEqual({
      event_type: 'image.tag.updated',
      image: `${data.registry}/${data.repository}:${data.tag}@${data.digest}`,
      list: [id, time, 7, -0.5, true, null, {}, []],
      nested: { text: `a}} {b} ${data.tag}${data.tag}`, __proto__: 'own' },
    })
  })

  it('keeps its keys in their order, also a key that JavaScript treats specially', () => {
    const text = '{"z":"{{tag}}","constructor":"a","a":{"__proto__":"{{tag}}"}}'
    const rendered = renderBodyTemplate(text, JSON.stringify(update))
    expect(rendered).toBe(text.replaceAll('{{tag}}', String(update.data.tag)))
  })

  it.each([
    '"}, "admin": true, "x": "',
    '\\',
    '\\"',
    '{{digest}}',
    "$& $1 $` $'",
    '\n\u0000\u2028</script>',
    '\ud800',
  ])('never lets a value end its string, or name another value: %j', (value) => {
    const event = { ...update, data: { ...update.data, tag: value, repository: value } }
    const rendered = render({ a: 'x{{tag}}y{{repository}}', b: 1 }, event)
    expect(rendered).toEqual({ a: `x${value}y${value}`, b: 1 })
  })

  it('is sent for exactly the types whose events have a value for each variable', () => {
    for (const name of VARIABLES) {
      const template = JSON.stringify({ text: `{{${name}}}` })
      const types = typesOfTemplate(template)
      for (const event of events.filter(({ type }) => type !== 'webhook.ping')) {
        const body = () => renderBodyTemplate(template, JSON.stringify(event))
        if (types.some((type) => type === event.type)) expect(body()).not.toContain('""')
        else expect(body, `${name} of ${event.type}`).toThrow(`has no ${name}`)
      }
      expect(types).not.toContain('webhook.ping')
    }
    expect(typesOfTemplate('{"text":"{{tag}} {{digest}}"}')).toEqual([
      'image.tag.updated',
      'image.unwrapped',
      'deployment.created',
      'deployment.updated',
      'deployment.finished',
      'deployment.target.changed',
    ])
  })

  it('is never longer than an event when it is rendered', () => {
    const long = Object.fromEntries(
      VARIABLES.map((name) => [name, 'x'.repeat(270)]),
    ) as unknown as Event
    const text = '{{repository}}'.repeat(TEMPLATE_VARIABLES_MAX)
    const template = { a: text, b: '' }
    const left = TEMPLATE_BYTES_MAX - JSON.stringify(template).length
    template.b = 'y'.repeat(left)
    expect(findTemplateProblem(template)).toBeUndefined()
    const body = renderBodyTemplate(
      JSON.stringify(template),
      JSON.stringify({ ...long, data: long }),
    )
    expect(body.length).toBeGreaterThan(270 * TEMPLATE_VARIABLES_MAX)
    expect(body.length).toBeLessThan(EVENT_BYTES_MAX)
    expect(findTemplateProblem({ ...template, b: 'y'.repeat(left + 1) })).toContain(
      `at most ${TEMPLATE_BYTES_MAX} bytes as JSON, not ${TEMPLATE_BYTES_MAX + 1}`,
    )
  })
})

const nested = (depth: number): unknown => (depth === 0 ? {} : { a: nested(depth - 1) })

describe('a template is refused', () => {
  it.each<[string, unknown, string]>([
    ['that is a text', '{{tag}}', 'must be a JSON object'],
    ['that is a list', ['{{tag}}'], 'must be a JSON object'],
    ['that is nothing', null, 'must be a JSON object'],
    ['with an unknown name', { a: ['x {{sha}}'] }, 'unknown variable "{{sha}}"'],
    ['with another case', { a: '{{Tag}}' }, 'unknown variable "{{Tag}}"'],
    ['with spaces', { a: '{{ tag }}' }, 'unknown variable "{{ tag }}"'],
    ['with code', { a: '{{tag.length}}' }, 'unknown variable "{{tag.length}}"'],
    ['with a name of JavaScript', { a: '{{constructor}}' }, 'unknown variable'],
    ['with braces that nothing closes', { a: 'x {{tag' }, 'unknown variable "{{"'],
    ['with three braces', { a: '{{{tag}}}' }, 'unknown variable "{{"'],
    ['with no name', { a: '{{}}' }, 'unknown variable "{{}}"'],
    ['with a variable in a key', { 'x{{tag}}': 1 }, 'in the key "x{{tag}}"'],
    ['with a hidden character', { a: 'x\u202ey' }, 'U+202E'],
    ['with a hidden character in a key', { 'x\u200by': 1 }, 'U+200B'],
    [
      'with a number that is rounded',
      JSON.parse('{"a":12345678901234567890}'),
      'write it as a string',
    ],
    ['with a number that JSON does not have', JSON.parse('{"a":1e400}'), 'write it as a string'],
    [
      'with too many variables',
      { a: '{{tag}}'.repeat(TEMPLATE_VARIABLES_MAX + 1) },
      `at most ${TEMPLATE_VARIABLES_MAX} variables, not ${TEMPLATE_VARIABLES_MAX + 1}`,
    ],
    ['that is too deep', nested(TEMPLATE_DEPTH_MAX), `at most ${TEMPLATE_DEPTH_MAX} objects`],
  ])('%s, with a sentence that says the rule', (_what, template, problem) => {
    expect(findTemplateProblem(template)).toContain(problem)
    expect(findTemplateProblem(template)?.length).toBeLessThan(300)
  })

  it('with the list of the variables that exist', () => {
    const problem = findTemplateProblem({ a: '{{name}}' })
    for (const name of VARIABLES) expect(problem).toContain(`{{${name}}}`)
  })

  it('at once, however deep or long it is', () => {
    const deep = JSON.parse(`${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`)
    const long = { a: '{{'.repeat(30_000), b: '{{tag'.repeat(10_000) }
    const started = performance.now()
    expect(findTemplateProblem(deep)).toBeDefined()
    expect(findTemplateProblem(long)).toBeDefined()
    expect(performance.now() - started).toBeLessThan(500)
  })
})

it('accepts the deepest and the smallest template', () => {
  expect(findTemplateProblem(nested(TEMPLATE_DEPTH_MAX - 1))).toBeUndefined()
  expect(findTemplateProblem({})).toBeUndefined()
})
