import type { Digest } from '../../oci/digest.ts'
import { BUILD_CLAIMS } from '../build-claims.ts'
import {
  baseName,
  EXEC_CONFIG,
  failedBuildManifest,
  type ImageContents,
  type ImageFile,
  INPUTS,
  imageManifest,
  otherBuildManifest,
  README,
  type Role,
} from '../format.ts'
import type { ExecHead } from './read-exec.ts'

/** A file of a build, as the store has it. */
export type BuiltFile = { readonly path: string; readonly digest: Digest; readonly size: number }
type StoredBytes = Omit<BuiltFile, 'path'>

/** The files of an exec, as the store has them. */
export type StoredExec = {
  readonly head: ExecHead
  readonly outputs: readonly BuiltFile[]
  /** True when the main binary has Solo5 notes. */
  readonly hasKernel: boolean
  readonly console: StoredBytes
  readonly script: StoredBytes
  /** The exec with the digest of each file in place of its bytes. */
  readonly record: StoredBytes
}

const BINARIES = 'bin/'
const MESSAGE_CHARACTERS_MAX = 1000
const SIGNAL_MAX = 255
const EXIT_CODE_MAX = 2 ** 31 - 1

/** The signals of POSIX that OCaml numbers with negative numbers, from -1 on, as Linux numbers them. */
const OCAML_SIGNALS = [
  6, 14, 8, 1, 4, 2, 9, 13, 3, 11, 15, 10, 12, 17, 18, 19, 20, 21, 22, 26, 27, 7, 29, 31, 5, 23, 24,
  25,
]

/** Finds the main binary of a build: the only file below `bin/`. */
export function findMainBinary<T extends { readonly path: string }>(
  outputs: readonly T[],
): T | undefined {
  const [only, another] = outputs.filter(({ path }) => path.startsWith(BINARIES))
  return another === undefined ? only : undefined
}

/** True when a build made what it should: a main binary. */
export function hasSucceeded(
  head: ExecHead,
  outputs: readonly { readonly path: string }[],
): boolean {
  return failureOf(head, outputs) === undefined
}

/** Makes the manifest of a build: of a unikernel, of something else, or the report of a failure. */
export function execManifest(exec: StoredExec): Uint8Array {
  const { head, outputs, console, script, record } = exec
  const main = findMainBinary(outputs)
  const failure = failureOf(head, outputs)
  const roles = rolesOf(outputs, main, exec.hasKernel && failure === undefined)
  const files: ImageFile[] = [
    { role: 'console', title: 'console', ...console },
    { role: 'script', title: 'script', ...script },
  ]
  const others: Omit<ImageFile, 'role'>[] = []
  // The main binary of a package is the first layer without a role.
  const ordered = outputs.toSorted((a, b) => Number(b === main) - Number(a === main))
  for (const output of ordered) {
    const { path: title, digest, size } = output
    const role = roles.get(output)
    if (role === undefined) others.push({ title, digest, size })
    else files.push({ role, title, digest, size })
  }
  const contents: ImageContents = {
    files,
    others,
    config: { mediaType: EXEC_CONFIG, ...record },
    created: toTheSecond(head.finishedAt),
    annotations: { ...timesOf(head), ...platformOf(head), ...failure },
  }
  if (failure !== undefined) return failedBuildManifest(contents)
  return exec.hasKernel ? imageManifest(contents) : otherBuildManifest(contents)
}

function rolesOf(
  outputs: readonly BuiltFile[],
  main: BuiltFile | undefined,
  hasKernel: boolean,
): Map<BuiltFile, Role> {
  const roles = new Map<BuiltFile, Role>()
  const taken = new Set<Role>()
  for (const output of outputs) {
    const role = roleOf(output.path, hasKernel ? main : undefined)
    if (role === undefined || taken.has(role)) continue
    taken.add(role)
    roles.set(output, role)
  }
  return roles
}

/** Returns the role of a file in orb's output folder; `main` is the kernel. */
function roleOf(path: string, main: BuiltFile | undefined): Role | undefined {
  if (path === main?.path) return 'kernel'
  if (main !== undefined && path === `${baseName(main.path)}.debug`) return 'debug'
  if (path === README) return 'readme'
  if (path.endsWith('.build-hashes') && !path.includes('/')) return 'build-hashes'
  return INPUTS.find((input) => input === path)
}

const toTheSecond = (date: Date) => date.toISOString().replace(/\.\d+Z$/, 'Z')

function timesOf({ startedAt, finishedAt }: ExecHead): Record<string, string> {
  const started = { [BUILD_CLAIMS.started]: startedAt.toISOString() }
  // The clock of the builder was set back.
  if (finishedAt < startedAt) return started
  return { ...started, [BUILD_CLAIMS.finished]: finishedAt.toISOString() }
}

function platformOf({ platform }: ExecHead): Record<string, string> {
  return platform === undefined ? {} : { [BUILD_CLAIMS.platform]: platform }
}

/** Returns the annotations of a failure; undefined when the build made what it should. */
function failureOf(
  head: ExecHead,
  outputs: readonly { readonly path: string }[],
): Record<string, string> | undefined {
  const error = (message: string) => ({
    [BUILD_CLAIMS.result]: 'error',
    [BUILD_CLAIMS.message]: messageOf(message),
  })
  const { result } = head
  if (result.kind === 'failure') return error(result.message)
  const { kind, code } = result
  if (kind === 'exited' && code === 0) {
    if (findMainBinary(outputs) !== undefined) return undefined
    const count = outputs.filter(({ path }) => path.startsWith(BINARIES)).length
    return error(
      `the build left ${count} files below bin/, and its main binary must be the only one`,
    )
  }
  if (kind === 'exited' && code > 0 && code <= EXIT_CODE_MAX) {
    return { [BUILD_CLAIMS.result]: 'failed', [BUILD_CLAIMS.exitCode]: String(code) }
  }
  const signal = code < 0 ? OCAML_SIGNALS[-code - 1] : code
  if (kind === 'signalled' && signal !== undefined && signal <= SIGNAL_MAX) {
    return { [BUILD_CLAIMS.result]: 'signalled', [BUILD_CLAIMS.signal]: String(signal) }
  }
  return error(`the build ${kind === 'exited' ? 'exited' : `was ${kind}`} with ${code}`)
}

/** Returns a text that may be an annotation. */
function messageOf(text: string): string {
  const shown = text.replaceAll('\0', '\ufffd').slice(0, MESSAGE_CHARACTERS_MAX)
  // The cut may leave half a surrogate pair.
  return shown.replace(/[\ud800-\udbff]$/, '') || 'the builder could not run the build'
}
