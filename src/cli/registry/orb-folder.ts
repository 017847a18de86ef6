import type { Dirent } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { errnoOf } from '../../async/errno.ts'
import { INPUTS, LOCK_ENDING, README, type Role } from '../../unikernel/format.ts'
import { MalformedKernelError, type ReadRange } from '../../unikernel/kernel/elf-bytes.ts'
import { findSolo5Kernel } from '../../unikernel/kernel/solo5.ts'
import { findUnlikeness, HEAD_BYTES } from '../../unikernel/likeness.ts'
import { CommandError, reasonOf } from '../errors.ts'
import { visible } from '../printing.ts'

/** A file that becomes a layer. */
export type OrbFile = { readonly role: Role; readonly path: string }

/** A folder with more entries is refused. */
const FILES_MAX = 1000
const SHOWN_MAX = 10
/** The folder for installed programs in orb's output. */
const PROGRAMS = 'bin'
/** The folder for kernels in a mirage project, after `mirage build`. */
const MIRAGE_OUTPUT = 'dist'
/** The folder for lock files in a mirage project, after `mirage configure` and `make lock`. */
const MIRAGE_LOCKS = 'mirage'

/**
 * Lists the files of an image by the names that orb gives them: the kernel in `bin`, else in the folder
 * itself, else in the `dist` of a mirage project, found by its Solo5 notes; the kernel with symbols; and the
 * inputs of the build; and the lock file, also in the `mirage` of a mirage project. A path to a file is a kernel alone. `kernel` chooses one of several. Throws CommandError.
 */
export async function listOrbFiles(path: string, kernel?: string): Promise<OrbFile[]> {
  const found = await stat(path).catch((cause) => {
    throw new CommandError(`there is no file or folder ${visible(path)}`, { cause })
  })
  if (!found.isDirectory()) {
    if (kernel !== undefined) {
      throw new CommandError(`${visible(path)} is a file: --kernel needs a folder`)
    }
    await assertKernel(path)
    return [{ role: 'kernel', path }]
  }
  const here = await listFiles(path)
  const main =
    kernel === undefined ? await onlyKernel(path, here) : await findNamedKernel(path, kernel)
  const name = basename(main)
  const present = (file: string) => (here.includes(file) ? file : undefined)
  const others: [Role, string | undefined][] = [
    ...INPUTS.map((input): [Role, string | undefined] => [input, present(input)]),
    ['debug', present(`${name}.debug`)],
    ['opam-lock', await findLockFile(path, here, name)],
    ['build-hashes', findBuildHashes(here, `${stem(name)}.build-hashes`)],
    ['readme', present(README)],
  ]
  return [
    { role: 'kernel', path: main },
    ...others.flatMap(([role, file]) =>
      file === undefined ? [] : [{ role, path: join(path, file) }],
    ),
  ]
}

/**
 * Lists the files of orb's output folder whose build failed: it has inputs, and no kernel anywhere. Undefined for any other
 * folder, and for a file.
 */
export async function findFailedBuild(path: string): Promise<OrbFile[] | undefined> {
  const here = await listFiles(path)
  const inputs = inputsAmong(here, path)
  // orb writes all three, and where it has no list of system packages the other two.
  if (inputs.length < 2 || (await hasPrograms(path, here))) return undefined
  return [...inputs, ...readme(here, path)]
}

/** Lists the inputs of a build in orb's output folder, and its README. Throws CommandError when there is no such folder. */
export async function listBuildFiles(path: string): Promise<OrbFile[]> {
  const found = await stat(path).catch((cause) => {
    throw new CommandError(`there is no folder ${visible(path)}`, { cause })
  })
  if (!found.isDirectory()) throw new CommandError(`${visible(path)} is not a folder`)
  const here = await listFiles(path)
  return [...inputsAmong(here, path), ...readme(here, path)]
}

function readme(files: readonly string[], folder: string): OrbFile[] {
  return files.includes(README) ? [{ role: 'readme', path: join(folder, README) }] : []
}

function inputsAmong(files: readonly string[], folder: string): OrbFile[] {
  return INPUTS.filter((input) => files.includes(input)).map((input) => ({
    role: input,
    path: join(folder, input),
  }))
}

/** True when a folder of orb has a file that may be a kernel, also a malformed one. */
async function hasPrograms(folder: string, here: readonly string[]): Promise<boolean> {
  const inside = await listFiles(join(folder, PROGRAMS))
  if (inside.length > 0 || (await listFiles(join(folder, MIRAGE_OUTPUT))).length > 0) return true
  for (const file of here) {
    if ((await findKernelProblem(join(folder, file))) !== NO_KERNEL) return true
  }
  return false
}

/** Returns a function that reads ranges of a file. */
export function rangesOf(path: string): ReadRange {
  return async (start, end) => {
    const file = await open(path)
    try {
      const bytes = Buffer.alloc(end - start + 1)
      const { bytesRead } = await file.read(bytes, 0, bytes.length, start)
      return bytes.subarray(0, bytesRead)
    } finally {
      await file.close()
    }
  }
}

async function onlyKernel(folder: string, here: readonly string[]): Promise<string> {
  const below = async (name: string) =>
    (await listFiles(join(folder, name))).map((file) => join(name, file))
  const broken: string[] = []
  for (const files of [await below(PROGRAMS), here, await below(MIRAGE_OUTPUT)]) {
    const kernels: string[] = []
    for (const file of files.filter((one) => !one.endsWith('.debug'))) {
      const problem = await findKernelProblem(join(folder, file))
      if (problem === undefined) kernels.push(file)
      else if (problem !== NO_KERNEL) broken.push(`${visible(file)}: ${problem}`)
    }
    const [first, second] = kernels
    if (second !== undefined) {
      const shown = kernels.slice(0, SHOWN_MAX).map(visible).join(', ')
      throw new CommandError(
        `there are ${kernels.length} kernels in ${visible(folder)}; choose one with --kernel: ${shown}`,
      )
    }
    if (first !== undefined) return join(folder, first)
  }
  const [problem] = broken
  if (problem !== undefined) throw new CommandError(problem)
  throw new CommandError(
    `there is no Solo5 kernel in ${visible(folder)}, its ${PROGRAMS} folder (orb) or its ${MIRAGE_OUTPUT} folder (mirage); did the build fail, or was it for unix?`,
  )
}

/** Finds a kernel by its name in the folder, or by its own path. */
async function findNamedKernel(folder: string, kernel: string): Promise<string> {
  const places = [
    join(folder, kernel),
    join(folder, PROGRAMS, kernel),
    join(folder, MIRAGE_OUTPUT, kernel),
    resolve(kernel),
  ]
  for (const place of places) {
    const found = await stat(place).catch(() => undefined)
    if (found?.isFile()) {
      await assertKernel(place)
      return place
    }
  }
  throw new CommandError(
    `there is no kernel ${visible(kernel)} in ${visible(folder)}, ${PROGRAMS} or ${MIRAGE_OUTPUT}`,
  )
}

const NO_KERNEL = 'it is not an ELF executable with Solo5 notes'

async function assertKernel(path: string): Promise<void> {
  const problem = await findKernelProblem(path)
  if (problem !== undefined) {
    const other = findUnlikeness('kernel', await rangesOf(path)(0, HEAD_BYTES - 1))
    const hint = other === undefined ? '' : `; ${other}`
    throw new CommandError(`${visible(path)} is not a kernel: ${problem}${hint}`)
  }
}

async function findKernelProblem(path: string): Promise<string | undefined> {
  try {
    const { size } = await stat(path)
    const kernel = await findSolo5Kernel(size, rangesOf(path))
    return kernel === undefined ? NO_KERNEL : undefined
  } catch (error) {
    if (error instanceof MalformedKernelError) return error.message
    throw unreadable(path, error)
  }
}

/** Finds the file of build hashes. It has the name of the package, which is often that of the kernel. */
function findBuildHashes(files: readonly string[], expected: string): string | undefined {
  const ending = files.filter((name) => name.endsWith('.build-hashes'))
  return ending.length === 1 ? ending[0] : ending.find((name) => name === expected)
}

/**
 * Finds the lock file: the only one, or of several that of the kernel, `hello-key-hvt.opam.locked` or
 * `hello-key.opam.locked` for `hello-key.hvt`.
 */
async function findLockFile(
  folder: string,
  here: readonly string[],
  kernel: string,
): Promise<string | undefined> {
  const below = (await listFiles(join(folder, MIRAGE_LOCKS))).map((file) =>
    join(MIRAGE_LOCKS, file),
  )
  const locks = [...here, ...below].filter((file) => file.endsWith(LOCK_ENDING))
  if (locks.length < 2) return locks[0]
  const names = [kernel.replaceAll('.', '-'), stem(kernel)].map((name) => name + LOCK_ENDING)
  const named = names.map((name) => locks.find((file) => basename(file) === name))
  return named.find((file) => file !== undefined)
}

/** A kernel's name without its target: `hello-key` of `hello-key.hvt`. */
function stem(name: string): string {
  const dot = name.lastIndexOf('.')
  return dot < 1 ? name : name.slice(0, dot)
}

const NO_FOLDER: ReadonlySet<unknown> = new Set(['ENOENT', 'ENOTDIR'])

/** Lists the names of files, links to files included, in their order. */
async function listFiles(folder: string): Promise<string[]> {
  let entries: Dirent[]
  try {
    entries = await readdir(folder, { withFileTypes: true })
  } catch (error) {
    if (NO_FOLDER.has(errnoOf(error))) return []
    throw unreadable(folder, error)
  }
  if (entries.length > FILES_MAX) {
    throw new CommandError(
      `${visible(folder)} has ${entries.length} entries, more than an orb folder: give the kernel itself`,
    )
  }
  const files = await Promise.all(
    entries.map(async (entry) => {
      if (!entry.isSymbolicLink()) return entry.isFile()
      const behind = await stat(join(folder, entry.name)).catch(() => undefined)
      return behind?.isFile() === true
    }),
  )
  return entries
    .filter((_, index) => files[index])
    .map(({ name }) => name)
    .sort()
}

function unreadable(path: string, error: unknown): CommandError {
  return new CommandError(`${visible(path)} cannot be read: ${reasonOf(error)}`, { cause: error })
}
