import { findHiddenProblem } from '../oci/hidden-characters.ts'
import { EVENT_TYPES, type EventType, isAboutRegistry } from './event.ts'

/** The names in a template that the values of an event replace, each in two pairs of braces. */
export const VARIABLES = ['type', 'id', 'time', 'registry', 'repository', 'tag', 'digest'] as const
type Variable = (typeof VARIABLES)[number]

/** Bytes of a template as JSON without spaces. */
export const TEMPLATE_BYTES_MAX = 4096
/**
 * Variables of one template. None of their values has more than 270 bytes, so a rendered body is shorter than an event
 * may be (EVENT_BYTES_MAX).
 */
export const TEMPLATE_VARIABLES_MAX = 50
/** Objects and lists within one another. */
export const TEMPLATE_DEPTH_MAX = 10
const SHOWN_LENGTH_MAX = 64

/** A variable; or two braces that begin none, which `name` is undefined for. */
const BRACES = /\{\{(?:(?<name>[^{}]*)\}\})?/g

const ABOUT_REPOSITORY = EVENT_TYPES.filter((type) => !isAboutRegistry(type))
/** The types whose events have a value; those of the other variables have one in every event. */
const TYPES_WITH: Readonly<Partial<Record<Variable, readonly EventType[]>>> = {
  repository: ABOUT_REPOSITORY,
  tag: EVENT_TYPES.filter((type) => /^(?:image\.(?:tag\.|unwrapped)|deployment\.)/.test(type)),
  digest: EVENT_TYPES.filter((type) =>
    /^(?:image\.(?!tag\.deleted)|build\.|deployment\.)/.test(type),
  ),
}

/** Lists the event types that have a value for each variable of a template. A ping is of none of them. */
export function typesOfTemplate(template: string): EventType[] {
  const used = new Set([...template.matchAll(BRACES)].map(({ groups }) => groups?.name))
  return EVENT_TYPES.filter(
    (type) =>
      type !== 'webhook.ping' &&
      VARIABLES.every((name) => !used.has(name) || (TYPES_WITH[name]?.includes(type) ?? true)),
  )
}

/**
 * Returns the problem of a template, to follow the name of its field: it must be a JSON object that this module can render
 * and whose size is bounded. Undefined for a valid one.
 */
export function findTemplateProblem(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return 'must be a JSON object'
  }
  const found: string[] = []
  const problem = findNodeProblem(value, 1, found)
  if (problem !== undefined) return problem
  if (found.length > TEMPLATE_VARIABLES_MAX) {
    return `must have at most ${TEMPLATE_VARIABLES_MAX} variables, not ${found.length}`
  }
  const bytes = Buffer.byteLength(JSON.stringify(value))
  if (bytes > TEMPLATE_BYTES_MAX) {
    return `must have at most ${TEMPLATE_BYTES_MAX} bytes as JSON, not ${bytes}`
  }
  return undefined
}

/** Adds the variables to `found`. `depth` ends the recursion. */
function findNodeProblem(value: unknown, depth: number, found: string[]): string | undefined {
  if (typeof value === 'string') return findTextProblem(value, found)
  if (typeof value === 'number') return findNumberProblem(value)
  if (typeof value !== 'object' || value === null) return undefined
  if (depth > TEMPLATE_DEPTH_MAX) {
    return `must have at most ${TEMPLATE_DEPTH_MAX} objects and lists within one another`
  }
  for (const [key, child] of Object.entries(value)) {
    if (key.includes('{{')) {
      return `has a variable in the key "${shown(key)}": variables are replaced in values, not in keys`
    }
    const problem = findHiddenProblem(key) ?? findNodeProblem(child, depth + 1, found)
    if (problem !== undefined) return problem
  }
  return undefined
}

function findTextProblem(text: string, found: string[]): string | undefined {
  for (const { 0: braces, groups } of text.matchAll(BRACES)) {
    const name = groups?.name
    if (!VARIABLES.some((one) => one === name)) {
      return `has the unknown variable "${shown(braces)}"; the variables are ${VARIABLES.map((one) => `{{${one}}}`).join(', ')}`
    }
    found.push(braces)
  }
  return findHiddenProblem(text)
}

/** A number that JavaScript rounds would be sent with another value. */
function findNumberProblem(value: number): string | undefined {
  const isExact = Number.isInteger(value) ? Number.isSafeInteger(value) : Number.isFinite(value)
  return isExact ? undefined : 'has a number that cannot be sent exactly: write it as a string'
}

function shown(text: string): string {
  return text.slice(0, SHOWN_LENGTH_MAX)
}

/** The fields of a stored body that a template may name. */
type StoredEvent = Readonly<Record<'type' | 'id' | 'time', string>> & {
  readonly data: Readonly<Partial<Record<Variable, unknown>>>
}

/**
 * Renders a template with the values of a stored event. They are put into the strings of the parsed template, and JSON is
 * made afterwards, so that no value can end a string. The same event gives the same bytes. Throws for an event that has no
 * value for a variable: see `typesOfTemplate`.
 */
export function renderBodyTemplate(template: string, body: string): string {
  const { type, id, time, data } = JSON.parse(body) as StoredEvent
  const values: Readonly<Record<string, unknown>> = { ...data, type, id, time }
  const replaced = JSON.parse(template, (_key, value) =>
    typeof value === 'string' ? value.replace(BRACES, findValue) : value,
  )
  return JSON.stringify(replaced)

  function findValue(_braces: string, name: string): string {
    const value = values[name]
    if (typeof value !== 'string') throw new Error(`the event has no ${name}`)
    return value
  }
}
