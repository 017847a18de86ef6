import { Buffer } from 'node:buffer'
import { ConsoleLines } from './console.ts'
import { DerReader, derHeader, explicitTag, invalidExec, TAGS } from './der.ts'
import type { DerStream } from './der-stream.ts'
import { parseDerTime } from './der-time.ts'

/** How a build ended, as builder says it. `failure`: it could not run the build. */
export type ExecResult =
  | { readonly kind: 'exited' | 'signalled' | 'stopped'; readonly code: number }
  | { readonly kind: 'failure'; readonly message: string }

/** An exec without its outputs: the description of one run of a job. */
export type ExecHead = {
  readonly job: string
  /** Undefined when the builder names none. */
  readonly platform: string | undefined
  /** A UUID in lower case. */
  readonly uuid: string
  readonly script: Uint8Array
  readonly startedAt: Date
  readonly finishedAt: Date
  readonly result: ExecResult
  readonly console: ConsoleLines
  /** All of this as it came: the elements before the outputs. */
  readonly der: Buffer
}

/** A file that the build left. Its bytes must be read before the next output is requested. */
export type ExecOutput = {
  /** Relative, without `.` and `..`. */
  readonly path: string
  /** In bytes; undefined when it is not known before. */
  readonly size: number | undefined
  bytes(): AsyncIterable<Uint8Array>
}

const CONSOLE_BYTES_MAX = 16 * 1024 * 1024
/** The name, the script, files that builder no longer sends, and the platform. */
const JOB_BYTES_MAX = 2 * 1024 * 1024
const SCRIPT_BYTES_MAX = 1024 * 1024
const SMALL_BYTES_MAX = 64
const RESULT_BYTES_MAX = 64 * 1024
const PATH_BYTES_MAX = 1024
/** Each output is a layer, and a manifest has at most 2000. */
export const OUTPUTS_MAX = 1000
const JOB_CHARACTERS_MAX = 255
const UUID_BYTES = 16
/** An exit code, two kinds of signals, and a message. */
const RESULT_TAGS = [0, 1, 2, 3].map(explicitTag)

/**
 * Reads an exec of builder up to its outputs (DER: `[0] SEQUENCE { job, uuid, console, times, result, outputs }`). The outputs
 * are read with `readOutputs`. Throws REQUEST_INVALID.
 */
export async function readHead(stream: DerStream): Promise<ExecHead & { outputBytes: number }> {
  const whole = await stream.header(explicitTag(0), 'the exec')
  const begin = stream.position
  const length = await stream.header(TAGS.sequence, 'the exec')
  if (whole !== stream.position - begin + length) throw invalidExec('its two lengths disagree')
  const start = stream.position
  const job = await stream.element(TAGS.sequence, 'the job', JOB_BYTES_MAX)
  const uuid = await stream.element(TAGS.utf8String, 'the uuid', SMALL_BYTES_MAX)
  const console = await stream.element(TAGS.sequence, 'the console', CONSOLE_BYTES_MAX)
  const times = await stream.element(TAGS.sequence, 'the times', SMALL_BYTES_MAX)
  const result = await stream.element(RESULT_TAGS, 'the result', RESULT_BYTES_MAX)
  const der = Buffer.concat([job, uuid, console, times, result])
  const before = stream.position
  const outputBytes = await stream.header(TAGS.sequence, 'the outputs')
  if (stream.position - start + outputBytes !== length) {
    throw invalidExec(`its length is ${length}, and its parts have ${before - start + outputBytes}`)
  }
  const lines = new DerReader(console).content(TAGS.sequence, 'the console')
  return {
    ...parseJob(job),
    uuid: parseUuid(uuid),
    ...parseTimes(times),
    result: parseResult(result),
    console: await ConsoleLines.read(lines),
    der,
    outputBytes,
  }
}

/** Reads the outputs, one after the other, and then the end. Throws REQUEST_INVALID. */
export async function* readOutputs(
  stream: DerStream,
  outputBytes: number,
): AsyncGenerator<ExecOutput> {
  const end = stream.position + outputBytes
  const paths = new Set<string>()
  while (stream.position < end) {
    if (paths.size === OUTPUTS_MAX) throw invalidExec(`it has more than ${OUTPUTS_MAX} files`)
    const length = await stream.header(TAGS.sequence, 'a file')
    const fileEnd = stream.position + length
    if (fileEnd > end) throw invalidExec('a file is longer than the outputs')
    const name = await stream.element(TAGS.utf8String, 'the path of a file', PATH_BYTES_MAX)
    const path = parsePath(new DerReader(name).content(TAGS.utf8String, 'the path of a file'))
    if (paths.has(path)) throw invalidExec(`the file ${JSON.stringify(path)} is there twice`)
    paths.add(path)
    const size = await stream.header(TAGS.utf8String, 'the bytes of a file')
    if (stream.position + size !== fileEnd) {
      throw invalidExec(`the lengths of the file ${JSON.stringify(path)} disagree`)
    }
    yield { path, size, bytes: () => stream.content(size, `the file ${JSON.stringify(path)}`) }
    if (stream.position !== fileEnd) throw new Error(`the bytes of ${path} were not read`)
  }
  await stream.assertEnd()
}

function parseJob(element: Buffer) {
  const job = new DerReader(element).inside(TAGS.sequence, 'the job')
  const name = text(job.content(TAGS.utf8String, 'the name of the job'), 'the name of the job')
  if (name === '' || name.length > JOB_CHARACTERS_MAX) {
    throw invalidExec(`the name of the job must have 1 to ${JOB_CHARACTERS_MAX} characters`)
  }
  const script = job.content(TAGS.utf8String, 'the script')
  if (script.length > SCRIPT_BYTES_MAX) {
    throw invalidExec(`the script may have at most ${SCRIPT_BYTES_MAX} bytes`)
  }
  job.content(TAGS.sequence, 'the files of the job')
  const platform = job.isDone
    ? undefined
    : text(job.content(TAGS.utf8String, 'the platform'), 'the platform')
  job.assertDone('the job')
  return { job: name, script, platform }
}

function parseUuid(element: Buffer): string {
  const bytes = new DerReader(element).content(TAGS.utf8String, 'the uuid')
  if (bytes.length !== UUID_BYTES) {
    throw invalidExec(`the uuid must have ${UUID_BYTES} bytes, not ${bytes.length}`)
  }
  return uuidOf(bytes)
}

/** Formats the 16 bytes of a UUID. */
export function uuidOf(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

function parseTimes(element: Buffer) {
  const times = new DerReader(element).inside(TAGS.sequence, 'the times')
  const startedAt = parseDerTime(times, 'the time of the start')
  const finishedAt = parseDerTime(times, 'the time of the end')
  times.assertDone('the times')
  return { startedAt, finishedAt }
}

const KINDS = ['exited', 'signalled', 'stopped'] as const

function parseResult(element: Buffer): ExecResult {
  const outer = new DerReader(element)
  const tag = outer.nextTag ?? 0
  const inner = outer.inside(tag, 'the result')
  const kind = KINDS[tag - explicitTag(0)]
  const result: ExecResult =
    kind === undefined
      ? { kind: 'failure', message: inner.content(TAGS.utf8String, 'the message').toString() }
      : { kind, code: inner.signed('the code of the result') }
  inner.assertDone('the result')
  return result
}

// Clients save the file under this path.
const UNSAFE_PATH = /^\/|\\|\p{Cc}|(?:^|\/)(?:\.{0,2})(?:\/|$)/u

/** Throws REQUEST_INVALID for a path that leaves the folder of the build, or that no client can save. */
export function parsePath(bytes: Buffer): string {
  const path = text(bytes, 'the path of a file')
  if (path === '' || UNSAFE_PATH.test(path)) {
    throw invalidExec(
      `the path ${JSON.stringify(path.slice(0, 80))} must be relative, without . and .. and control characters`,
    )
  }
  return path
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function text(bytes: Buffer, what: string): string {
  try {
    return UTF8.decode(bytes)
  } catch (cause) {
    throw invalidExec(`${what} is not UTF-8`, cause)
  }
}

/** Returns the bytes before the outputs: two headers, the head, and the header of the outputs. */
export function execPrefix(der: Uint8Array, outputBytes: number): Buffer {
  const outputs = derHeader(TAGS.sequence, outputBytes)
  const length = der.length + outputs.length + outputBytes
  const sequence = derHeader(TAGS.sequence, length)
  const whole = derHeader(explicitTag(0), sequence.length + length)
  return Buffer.concat([whole, sequence, der, outputs])
}

/** Returns the bytes before those of a file. */
export function outputPrefix(path: string, size: number): Buffer {
  const name = Buffer.from(path)
  const before = Buffer.concat([
    derHeader(TAGS.utf8String, name.length),
    name,
    derHeader(TAGS.utf8String, size),
  ])
  return Buffer.concat([derHeader(TAGS.sequence, before.length + size), before])
}
