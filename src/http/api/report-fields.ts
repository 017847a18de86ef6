import { plainLine, plainText } from '../../deployments/console-text.ts'
import type { Tender } from '../../deployments/preflight.ts'
import type { Report } from '../../deployments/report-changes.ts'
import { UNIT_STATES } from '../../deployments/states.ts'
import { parseDigest } from '../../oci/digest.ts'
import { badRequest } from '../../oci/errors.ts'
import { parseRepository, parseTag } from '../../oci/reference.ts'
import { isUuid } from '../../oci/uuid.ts'
import { findTarget, TARGET_NAMES } from '../../unikernel/targets.ts'
import { formParts, isForm } from '../multipart.ts'
import type { RouteContext } from '../route.ts'
import { JsonFields, readFields } from './json-fields.ts'

const MESSAGE_BYTES_MAX = 1024
const LOG_BYTES_MAX = 16 * 1024
const DEVICES_MAX = 64
const TENDERS_MAX = 32
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const WORD = /^[a-z0-9][a-z0-9-]{0,63}$/
const DEVICE = /^(?:block|net):[!-~]{1,67}$/
const AGENT_CHARACTERS_MAX = 100
const EXIT_CODE_MAX = 2 ** 31 - 1
/** The fields of a form that are JSON text. */
const NESTED = ['follows', 'devices', 'exit', 'tenders'] as const
const NUMBERS = ['sequence', 'healthySeconds'] as const

/** Parses the name of a unit. Throws REQUEST_INVALID. */
export function parseUnitName(text: string): string {
  if (NAME.test(text)) return text
  throw badRequest(
    'the name of a unit has 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or a digit',
  )
}

/** Reads a report in JSON, or as a form that curl sends without escaping. Throws REQUEST_INVALID. */
export async function readReport(ctx: RouteContext): Promise<Report> {
  if (!isForm(ctx)) return readFields(ctx, reportOf)
  return JsonFields.readAll(await readForm(ctx), '', reportOf)
}

/** Reads the parts of a form: the fields of the JSON, nested ones as JSON text, and the log as a file. */
async function readForm(ctx: RouteContext): Promise<Record<string, unknown>> {
  const values = new Map<string, unknown>()
  for await (const part of formParts(ctx)) {
    if (values.has(part.name)) throw badRequest(`${part.name} is given twice`)
    if (part.kind === 'file') {
      if (part.name !== 'log') throw badRequest('the only file of a report is log')
      values.set('log', { text: await readText(part.bytes) })
    } else values.set(part.name, formValue(part.name, part.value))
  }
  return Object.fromEntries(values)
}

function formValue(name: string, value: string): unknown {
  if (name === 'log') return { text: value }
  // A form has no null: a field without a value is none.
  if (value === '') return undefined
  // Number() also reads spaces and hexadecimal digits.
  if (NUMBERS.some((one) => one === name)) return /^\d+$/.test(value) ? Number(value) : value
  if (!NESTED.some((one) => one === name)) return value
  try {
    return JSON.parse(value)
  } catch (cause) {
    throw badRequest(`${name} must be JSON`, { cause })
  }
}

async function readText(bytes: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of bytes) {
    size += chunk.length
    if (size > LOG_BYTES_MAX) throw logTooLong()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function logTooLong() {
  return badRequest(`log may have at most ${LOG_BYTES_MAX} bytes: send the last lines`)
}

function reportOf(fields: JsonFields): Report {
  const follows = fields.optionalFields('follows', (part) => ({
    repository: parseRepository(part.text('repository')),
    tag: parseTag(part.text('tag')),
    target: targetOf(part.optionalText('target')),
  }))
  const kernel = fields.optionalText('kernel')
  const message = fields.raw('message') ?? undefined
  const exit = fields.optionalFields('exit', (part) => ({
    code: part.optionalNumber('code'),
    meaning: part.raw('meaning') ?? undefined,
  }))
  return {
    ...follows,
    devices: devicesOf(fields.optionalTexts('devices')),
    bootId: nameOf('bootId', fields.text('bootId')),
    sequence: naturalOf('sequence', fields.optionalNumber('sequence')),
    kernel: kernel === undefined ? null : parseDigest(kernel),
    state: stateOf(fields.text('state')),
    deployment: deploymentOf(fields.optionalText('deployment')),
    healthySeconds: secondsOf(fields.optionalNumber('healthySeconds')),
    since: fields.optionalTime('since') ?? null,
    exitCode: exitCodeOf(exit.code),
    exitMeaning: lineOf('exit.meaning', exit.meaning),
    reason: wordOf(fields.optionalText('reason')),
    message: lineOf('message', message),
    log: logOf(fields),
    tenders: tendersOf(fields.raw('tenders') ?? undefined),
    agent: agentOf(fields.optionalText('agent')),
  }
}

function targetOf(text: string | undefined): string | null {
  if (text === undefined) return null
  const target = findTarget(text)
  if (target !== undefined) return target
  throw badRequest(`follows.target must be one of ${TARGET_NAMES.join(', ')}`)
}

function devicesOf(devices: readonly string[] | undefined): readonly string[] | null {
  if (devices === undefined) return null
  if (devices.length > DEVICES_MAX) throw badRequest(`devices may have at most ${DEVICES_MAX}`)
  if (devices.every((device) => DEVICE.test(device))) return devices
  throw badRequest('devices must be a list such as ["net:service", "block:data"]')
}

function nameOf(field: string, text: string): string {
  if (NAME.test(text)) return text
  throw badRequest(
    `${field} must have 1 to 64 letters, digits, dots, hyphens and underscores, such as a UUID`,
  )
}

function naturalOf(field: string, value: number | undefined): number {
  if (value !== undefined && value >= 0) return value
  throw badRequest(`${field} must be a whole number, 0 or more`)
}

function secondsOf(value: number | undefined): number | null {
  return value === undefined ? null : naturalOf('healthySeconds', value)
}

function stateOf(text: string): Report['state'] {
  const state = UNIT_STATES.find((one) => one === text)
  if (state !== undefined) return state
  throw badRequest(`state must be one of ${UNIT_STATES.join(', ')}`)
}

function deploymentOf(text: string | undefined): string | null {
  if (text === undefined) return null
  if (isUuid(text)) return text
  throw badRequest('deployment must be the id of a deployment')
}

function exitCodeOf(code: number | undefined): number | null {
  if (code === undefined) return null
  if (Math.abs(code) <= EXIT_CODE_MAX) return code
  throw badRequest('exit.code must be the exit code of a process')
}

function wordOf(text: string | undefined): string | null {
  if (text === undefined) return null
  if (WORD.test(text)) return text
  throw badRequest('reason must be one word in lower case, such as check-failed')
}

function lineOf(field: string, value: unknown): string | null {
  if (value === undefined) return null
  if (typeof value !== 'string') throw badRequest(`${field} must be a string`)
  if (Buffer.byteLength(value) > MESSAGE_BYTES_MAX) {
    throw badRequest(`${field} may have at most ${MESSAGE_BYTES_MAX} bytes: send the rest as log`)
  }
  return plainLine(value) || null
}

function logOf(fields: JsonFields): string | null {
  return fields.optionalFields('log', (part) => {
    const text = part.raw('text') ?? undefined
    if (text === undefined) return null
    if (typeof text !== 'string') throw badRequest('log.text must be a string')
    if (Buffer.byteLength(text) > LOG_BYTES_MAX) throw logTooLong()
    return plainText(text) || null
  })
}

function tendersOf(value: unknown): readonly Tender[] | undefined {
  if (value === undefined) return undefined
  if (!Array.isArray(value) || value.length > TENDERS_MAX) {
    throw badRequest(`tenders must be a list of at most ${TENDERS_MAX} objects`)
  }
  return value.map((one: unknown, index) => {
    if (typeof one !== 'object' || one === null || Array.isArray(one)) {
      throw badRequest(`tenders[${index}] must be an object`)
    }
    return JsonFields.readAll({ ...one }, `tenders[${index}].`, tenderOf)
  })
}

function tenderOf(fields: JsonFields): Tender {
  const target = findTarget(fields.text('target'))
  if (target === undefined) {
    throw badRequest(`the target of a tender must be one of ${TARGET_NAMES.join(', ')}`)
  }
  const architecture = fields.optionalText('architecture') ?? null
  if (architecture !== null) nameOf('the architecture of a tender', architecture)
  const abi = fields.optionalNumber('abi')
  return { target, abi: abi === undefined ? null : naturalOf('abi', abi), architecture }
}

function agentOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  if (text.length <= AGENT_CHARACTERS_MAX) return plainLine(text)
  throw badRequest(`agent may have at most ${AGENT_CHARACTERS_MAX} characters`)
}
