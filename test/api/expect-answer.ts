import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import { expect } from 'vitest'
import { INERT_HEADER_NAMES } from '../../src/http/response-headers.ts'
import { ERRORS } from '../../src/oci/errors.ts'
import { DOCUMENT, findOperation, nodeOf, type Place, partOf, partsOf } from './openapi-document.ts'

const NAME = 'openapi'
const OPTIONS = { strict: true, allowUnionTypes: true, allErrors: true } as const
const bodies = withDocument(new Ajv2020(OPTIONS))
const texts = withDocument(new Ajv2020({ ...OPTIONS, coerceTypes: true }))
const SHOWN_LENGTH = 1000

/** Headers that HTTP adds, and those of every response. */
const ORDINARY: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'content-type',
  'date',
  'keep-alive',
  'transfer-encoding',
  'x-request-id',
  ...INERT_HEADER_NAMES,
])

/** The responses that were seen so far, such as `GET /api/v1/audit 200`. */
export const seen = new Set<string>()

/**
 * Checks a response against spec/openapi.yaml: its status, headers and body. `path` is the path of the
 * request. Returns the body if it is JSON; the body of `answer` can still be read.
 */
export async function expectAnswer(
  method: string,
  path: string,
  answer: Response,
): Promise<unknown> {
  const operation = findOperation(method, path)
  if (operation === undefined) throw new Error(`${method} ${path} is not in spec/openapi.yaml`)
  const text = await answer.clone().text()
  const key = `${method} ${operation.path} ${answer.status}`
  const response =
    partOf(operation.place, 'responses', String(answer.status)) ??
    (answer.status >= 500 ? partOf(operation.place, 'responses', 'default') : undefined)
  if (response === undefined) {
    throw new Error(`${key} is not in spec/openapi.yaml: ${text.slice(0, SHOWN_LENGTH)}`)
  }
  seen.add(key)
  expectHeaders(key, response, answer)
  return expectBody(key, response, answer, method === 'HEAD' ? undefined : text)
}

/** Validates a value by the schema at that pointer. Returns the problems, one per line; empty for a valid value. */
export function faultsOf(pointer: string, value: unknown): string {
  return faults(validatorAt(bodies, pointer), value)
}

/** Validates a value that is sent as text, such as a parameter. */
export function faultsOfText(pointer: string, text: string): string {
  return faults(validatorAt(texts, pointer), text)
}

function expectHeaders(key: string, response: Place, answer: Response): void {
  expect(answer.headers.get('x-request-id'), `${key}: X-Request-Id`).toMatch(/^[0-9a-f-]{36}$/)
  const documented = partsOf(response, 'headers')
  for (const [name, { node, pointer }] of documented) {
    const value = answer.headers.get(name)
    if (value === null) expect(node.required, `${key} has no ${name}`).not.toBe(true)
    else assertNoFault(faultsOfText(`${pointer}/schema`, value), `${key} ${name}`, value)
  }
  const names = documented.map(([name]) => name.toLowerCase())
  const others = [...answer.headers.keys()].filter(
    (name) => !ORDINARY.has(name) && !names.includes(name),
  )
  expect(others, `${key} has headers that spec/openapi.yaml does not name`).toEqual([])
}

/** `text` is undefined for a response without a body. */
function expectBody(
  key: string,
  response: Place,
  answer: Response,
  text: string | undefined,
): unknown {
  const content = partOf(response, 'content')
  if (content === undefined || text === undefined) {
    expect(text ?? '', `${key} has a body that spec/openapi.yaml does not name`).toBe('')
    return undefined
  }
  const type = answer.headers.get('content-type')?.split(';')[0] ?? ''
  const media = partOf(content, type)
  if (media === undefined) throw new Error(`${key}: ${type} is not in spec/openapi.yaml`)
  if (type !== 'application/json') return undefined
  const body: unknown = JSON.parse(text)
  assertNoFault(faultsOf(`${media.pointer}/schema`, body), key, text)
  if (answer.status >= 400) expectCode(answer.status, body)
  return body
}

function assertNoFault(fault: string, where: string, text: string): void {
  if (fault !== '') throw new Error(`${where}: ${fault}\nin ${text.slice(0, SHOWN_LENGTH)}`)
}

/** Asserts that the status is the one of the code. */
function expectCode(status: number, body: unknown): void {
  const { errors } = nodeOf(body)
  const code = Array.isArray(errors) ? nodeOf(errors[0]).code : undefined
  const entry = Object.entries(ERRORS).find(([name]) => name === code)
  expect({ code, status: entry?.[1][0] }).toEqual({ code, status })
}

function withDocument(ajv: Ajv2020): Ajv2020 {
  formats.default(ajv)
  // The document contains schemas; ajv finds them when it knows the document's own keywords.
  ajv.addVocabulary(Object.keys(DOCUMENT))
  return ajv.addSchema(DOCUMENT, NAME, undefined, false)
}

function validatorAt(ajv: Ajv2020, pointer: string): ValidateFunction {
  const validate = ajv.getSchema(`${NAME}#${encodeURI(pointer)}`)
  if (validate === undefined) throw new Error(`there is no schema at ${pointer}`)
  return validate
}

function faults(validate: ValidateFunction, value: unknown): string {
  if (validate(value)) return ''
  const lines = (validate.errors ?? []).map(
    ({ instancePath, message, params }) =>
      `${instancePath || 'it'} ${message ?? ''} ${JSON.stringify(params)}`,
  )
  return lines.join('\n')
}
