import type { Dirent } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { errnoOf } from '../../async/errno.ts'
import { findKernelProblem, mayBeKernel } from '../../unikernel/declared-kernel.ts'
import { INPUTS, LOCK_ENDING, README, type Role } from '../../unikernel/format.ts'
import { MalformedKernelError, type ReadRange } from '../../unikernel/kernel/elf-bytes.ts'
import type { FileFormat } from '../../unikernel/kernel/file-format.ts'
import { type KernelFile, readKernelFile } from '../../unikernel/kernel/kernel-file.ts'
import { findTarget, findTargetOfTitle, isSolo5Target } from '../../unikernel/targets.ts'
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
export async function listOrbFiles(
  path: string,
  kernel?: string,
  target?: string,
): Promise<OrbFile[]> {
  const found = await stat(path).catch((cause) => {
    throw new CommandError(`there is no file or folder ${visible(path)}`, { cause })
  })
  if (!found.isDirectory()) {
    if (kernel !== undefined) {
      throw new CommandError(`${visible(path)} is a file: --kernel needs a folder`)
    }
    await assertKernel(path, target)
    return [{ role: 'kernel', path }]
  }
  const here = await listFiles(path)
  const main =
    kernel === undefined
      ? await onlyKernel(path, here, target)
      : await findNamedKernel(path, kernel)
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
    const read = await readKernel(join(folder, file))
    const isProgram = typeof read === 'string' || read.solo5 !== undefined
    if (isProgram || isNamedAfterTarget(file)) return true
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

async function onlyKernel(
  folder: string,
  here: readonly string[],
  target: string | undefined,
): Promise<string> {
  const below = async (name: string) =>
    (await listFiles(join(folder, name))).map((file) => join(name, file))
  const [programs, output] = [await below(PROGRAMS), await below(MIRAGE_OUTPUT)]
  const found = await readKernels(folder, [programs, here, output])
  // Kernels of other kinds have no notes: their names end with their target, or they are the programs of the folder.
  const executables = found.others.filter(
    ({ file, format }) =>
      (format === 'elf' || format === 'mach-o') &&
      (target !== undefined || programs.includes(file) || output.includes(file)),
  )
  const named = found.others.filter(({ file }) => isNamedAfterTarget(file))
  for (const kernels of [...found.solo5, namesOf(named), namesOf(executables)]) {
    const [first, second] = kernels
    if (second !== undefined) {
      const shown = kernels.slice(0, SHOWN_MAX).map(visible).join(', ')
      throw new CommandError(
        `there are ${kernels.length} kernels in ${visible(folder)}; choose one with --kernel: ${shown}`,
      )
    }
    if (first !== undefined) return join(folder, first)
  }
  const [problem] = found.broken
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

/** True for the name of a kernel that has no Solo5 notes, such as `www.fc`. */
function isNamedAfterTarget(file: string): boolean {
  const target = findTargetOfTitle(file)
  return target !== undefined && !isSolo5Target(target)
}

const namesOf = (files: readonly OtherFile[]) => files.map(({ file }) => file)

type OtherFile = { readonly file: string; readonly format: FileFormat }

/** Reads the files of folders, given by their paths in `folder`, as kernels. */
async function readKernels(folder: string, groups: readonly (readonly string[])[]) {
  const solo5: string[][] = []
  const others: OtherFile[] = []
  const broken: string[] = []
  for (const files of groups) {
    const kernels: string[] = []
    for (const file of files.filter((one) => !one.endsWith('.debug'))) {
      const read = await readKernel(join(folder, file))
      if (typeof read === 'string') broken.push(`${visible(file)}: ${read}`)
      else if (read.solo5 !== undefined) kernels.push(file)
      else if (mayBeKernel(read.format)) others.push({ file, format: read.format })
    }
    solo5.push(kernels)
  }
  return { solo5, others, broken }
}

/** True when the kernel among the files has Solo5 notes. */
export async function isSolo5Kernel(files: readonly OrbFile[]): Promise<boolean> {
  const kernel = files.find(({ role }) => role === 'kernel')
  const read = kernel && (await readKernel(kernel.path))
  return typeof read === 'object' && read.solo5 !== undefined
}

/** Throws CommandError for a file that is no kernel for its target: that of its notes, the given one, or its ending. */
async function assertKernel(path: string, given?: string): Promise<void> {
  const read = await readKernel(path)
  if (typeof read === 'string') throw new CommandError(`${visible(path)} is not a kernel: ${read}`)
  if (read.solo5 !== undefined) return
  const named = given === undefined ? findTargetOfTitle(path) : findTarget(given)
  const where = given === undefined ? 'the ending of the file name' : '--target'
  const declared = named && { where, target: named }
  const problem = findKernelProblem(read, declared)
  if (problem !== undefined) throw new CommandError(`${visible(path)} is not a kernel: ${problem}`)
}

/** Reads a file as a kernel. Returns the problem of a malformed one. */
async function readKernel(path: string): Promise<KernelFile | string> {
  try {
    const { size } = await stat(path)
    return await readKernelFile(size, rangesOf(path))
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
