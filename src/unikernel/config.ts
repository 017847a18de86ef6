import { isObject } from '../oci/descriptor.ts'
import {
  DEVICE_KINDS,
  type DeviceKind,
  TARGETS as SOLO5_TARGETS,
  type Target as Solo5Target,
} from './kernel/solo5-notes.ts'
import { findTarget, TARGETS, type Target } from './targets.ts'
import { isTime } from './time.ts'

// A config has some lines; a longer file is not a config.
export const CONFIG_BYTES_MAX = 64 * 1024
const TEXT_CHARACTERS_MAX = 4096
const LIST_MAX = 1000
// MFT_MAX_ENTRIES without the reserved entry.
const DEVICES_MAX = 63
// A petabyte: no 64-bit machine has more.
const MEMORY_MIB_MAX = 2 ** 30

/** The config of an image. All fields are optional (spec/unikernel-image.md, "Config"). */
export type UnikernelConfig = {
  readonly name?: string
  readonly target?: Target
  readonly abi?: { readonly target?: Solo5Target; readonly version?: number }
  readonly architecture?: string
  readonly devices?: readonly { readonly name: string; readonly kind: DeviceKind }[]
  /** The least memory that the kernel needs, in MiB. */
  readonly memory?: number
  readonly argv?: readonly string[]
  /** RFC 3339. */
  readonly created?: string
}

/** A malformed config. The message is one line with the field and the rule. */
export class MalformedConfigError extends Error {
  override readonly name = 'MalformedConfigError'
}

const decoder = new TextDecoder('utf-8', { fatal: true })

/**
 * Parses the config of a unikernel image. Unknown fields are ignored. Throws MalformedConfigError
 * that names the field.
 */
export function parseConfig(bytes: Uint8Array): UnikernelConfig {
  if (bytes.length > CONFIG_BYTES_MAX) {
    throw malformedConfig('config', `must have at most ${CONFIG_BYTES_MAX} bytes`, bytes.length)
  }
  const body = parseObject(bytes)
  const config = {
    name: optional(body.name, 'config.name', text),
    target: optional(body.target, 'config.target', target),
    abi: optional(body.abi, 'config.abi', abi),
    architecture: optional(body.architecture, 'config.architecture', text),
    devices: optional(body.devices, 'config.devices', devices),
    memory: optional(body.memory, 'config.memory', memory),
    argv: optional(body.argv, 'config.argv', argv),
    created: optional(body.created, 'config.created', time),
  }
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined))
}

const SHOWN_MAX = 80

function malformedConfig(
  where: string,
  right: string,
  found?: unknown,
  cause?: unknown,
): MalformedConfigError {
  const shown = found === undefined ? '' : `, not ${JSON.stringify(found).slice(0, SHOWN_MAX)}`
  return new MalformedConfigError(`${where} ${right}${shown}`, { cause })
}

type Read<T> = (value: unknown, where: string) => T

function parseObject(bytes: Uint8Array) {
  let value: unknown
  try {
    value = JSON.parse(decoder.decode(bytes))
  } catch (cause) {
    throw malformedConfig('config', 'must be JSON in UTF-8', undefined, cause)
  }
  if (!isObject(value)) throw malformedConfig('config', 'must be a JSON object')
  return value
}

function optional<T>(value: unknown, where: string, read: Read<T>): T | undefined {
  return value == null ? undefined : read(value, where)
}

function text(value: unknown, where: string): string {
  if (typeof value === 'string' && value.length <= TEXT_CHARACTERS_MAX && !value.includes('\0')) {
    return value
  }
  throw malformedConfig(
    where,
    `must be text of at most ${TEXT_CHARACTERS_MAX} characters, without NUL`,
  )
}

function target(value: unknown, where: string): Target {
  const found = typeof value === 'string' ? findTarget(value) : undefined
  if (found === undefined)
    throw malformedConfig(where, `must be one of ${TARGETS.join(', ')}`, value)
  return found
}

/** Only Solo5 has ABIs. */
function abiTarget(value: unknown, where: string): Solo5Target {
  const found = SOLO5_TARGETS.find((one) => one === value)
  if (found === undefined) {
    throw malformedConfig(where, `must be one of ${SOLO5_TARGETS.join(', ')}`, value)
  }
  return found
}

function abi(value: unknown, where: string): NonNullable<UnikernelConfig['abi']> {
  if (!isObject(value)) throw malformedConfig(where, 'must be an object with target and version')
  const declared = optional(value.target, `${where}.target`, abiTarget)
  const version = optional(value.version, `${where}.version`, natural)
  return {
    ...(declared === undefined ? {} : { target: declared }),
    ...(version === undefined ? {} : { version }),
  }
}

function natural(value: unknown, where: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 32) {
    return value
  }
  throw malformedConfig(where, 'must be a whole number', value)
}

function memory(value: unknown, where: string): number {
  const mebibytes = natural(value, where)
  if (mebibytes > 0 && mebibytes <= MEMORY_MIB_MAX) return mebibytes
  throw malformedConfig(
    where,
    `must be a number of MiB, at least 1 and at most ${MEMORY_MIB_MAX}`,
    value,
  )
}

function listOf<T>(value: unknown, where: string, max: number, read: Read<T>): T[] {
  if (!Array.isArray(value) || value.length > max) {
    throw malformedConfig(where, `must be a list of at most ${max}`)
  }
  return value.map((one, index) => read(one, `${where}[${index}]`))
}

function argv(value: unknown, where: string): string[] {
  return listOf(value, where, LIST_MAX, text)
}

function devices(value: unknown, where: string): NonNullable<UnikernelConfig['devices']> {
  return listOf(value, where, DEVICES_MAX, (one, place) => {
    if (!isObject(one)) throw malformedConfig(place, 'must be an object with name and kind')
    const kind = DEVICE_KINDS.find((known) => known === one.kind)
    if (kind === undefined) {
      throw malformedConfig(`${place}.kind`, `must be one of ${DEVICE_KINDS.join(', ')}`, one.kind)
    }
    return { name: text(one.name, `${place}.name`), kind }
  })
}

function time(value: unknown, where: string): string {
  const found = text(value, where)
  if (isTime(found)) return found
  throw malformedConfig(where, 'must be a time such as 2026-05-20T18:07:42Z', found)
}
