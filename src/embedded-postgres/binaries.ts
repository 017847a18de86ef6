import { execFile } from 'node:child_process'
import { access, constants, readdir, realpath } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { errnoOf } from '../async/errno.ts'
import { EmbeddedPostgresError, messageOf } from './errors.ts'
import {
  findFormerPackage,
  findNativePackage,
  NATIVE_PACKAGE,
  prepareNativePackage,
  readPackage,
} from './native-package.ts'
import { commandAs, findClosedFolder, type OsUser } from './os-user.ts'

export type Binaries = {
  readonly postgres: string
  readonly initdb: string
  readonly major: number
}

const MAJOR_MIN = 14
const VERSION_MILLISECONDS_MAX = 5_000
// Folders that the packages of Debian, PGDG and Homebrew leave out of PATH.
const PACKAGE_FOLDERS: readonly [parent: string, name: RegExp, bin: string][] = [
  ['/usr/lib/postgresql', /^(\d+)$/, 'bin'],
  ['/usr', /^pgsql-(\d+)$/, 'bin'],
  ['/opt/homebrew/opt', /^postgresql@(\d+)$/, 'bin'],
  ['/usr/local/opt', /^postgresql@(\d+)$/, 'bin'],
]

const run = promisify(execFile)

/**
 * Finds the binaries to use: those of the npm package, or else those of the system. When data exist, the
 * major version must be `dataMajor`. Throws EmbeddedPostgresError when none match.
 */
export async function findBinaries(
  folder: string,
  osUser: OsUser,
  dataMajor: number | undefined,
): Promise<Binaries> {
  const rejected: string[] = []
  const otherMajors: number[] = []
  for await (const bin of candidates(folder, osUser)) {
    const found = await binariesIn(bin, osUser)
    if (typeof found === 'string') rejected.push(`${bin}: ${found}`)
    else if (dataMajor !== undefined && dataMajor !== found.major) otherMajors.push(found.major)
    else return found
  }
  if (dataMajor !== undefined && otherMajors.length > 0) {
    throw otherMajor(folder, dataMajor, [...new Set(otherMajors)])
  }
  const native = (await findNativePackage()) !== undefined
  const why = [...(native ? [] : [`npm did not install ${NATIVE_PACKAGE}`]), ...rejected]
  if (rejected.length === 0) why.push('the system has none')
  throw new EmbeddedPostgresError(
    `no Postgres to run (${why.join('; ')}); install Postgres ${MAJOR_MIN} or newer, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
  )
}

/**
 * Finds the binaries of an older major version: in the given folder, or else in the npm package that a release installs
 * for it, or those of the system. Throws EmbeddedPostgresError when there are none.
 */
export async function findFormerBinaries(
  folder: string,
  osUser: OsUser,
  major: number,
  given: string | undefined,
): Promise<Binaries> {
  const rejected: string[] = []
  for await (const bin of formerCandidates(folder, osUser, major, given)) {
    const found = await binariesIn(bin, osUser)
    if (typeof found === 'string') rejected.push(`${bin}: ${found}`)
    else if (found.major === major) return found
    else rejected.push(`${bin}: Postgres ${found.major}`)
  }
  const why = rejected.length === 0 ? '' : ` (${rejected.join('; ')})`
  throw new EmbeddedPostgresError(
    `the data in ${folder} belong to Postgres ${major}, and its binaries are not found${why}; install them with npm install --no-save --prefix /tmp/postgres-${major} ${NATIVE_PACKAGE}@${major}, and name them: rookery upgrade-database --from-binaries /tmp/postgres-${major}/node_modules/${NATIVE_PACKAGE}`,
  )
}

async function* formerCandidates(
  folder: string,
  osUser: OsUser,
  major: number,
  given: string | undefined,
): AsyncGenerator<string> {
  if (given !== undefined) {
    const named = (await readPackage(given).catch(() => undefined)) ?? undefined
    yield named === undefined ? given : await prepareNativePackage(named, folder, osUser)
    return
  }
  const native = await findFormerPackage(major)
  if (native !== undefined) yield prepareNativePackage(native, folder, osUser)
  yield* systemCandidates()
}

function otherMajor(folder: string, dataMajor: number, majors: number[]): EmbeddedPostgresError {
  const data = `the data in ${folder} belong to Postgres ${dataMajor}, and the binaries found are Postgres ${majors.join(' and ')}`
  return new EmbeddedPostgresError(
    majors.some((major) => major > dataMajor)
      ? `${data}; run: rookery upgrade-database`
      : `${data}, which are older; run the release of rookery that wrote the data, or install Postgres ${dataMajor}`,
  )
}

/** Returns the binaries of a folder, or the reason why they do not run. */
async function binariesIn(bin: string, osUser: OsUser): Promise<Binaries | string> {
  let closed: string | undefined
  try {
    closed = await findClosedFolder(osUser, join(bin, 'postgres'))
    await access(join(bin, 'postgres'), constants.X_OK)
  } catch (error) {
    return errnoOf(error) === 'ENOENT' ? 'it has no postgres' : messageOf(error)
  }
  if (closed !== undefined) return `uid ${osUser.uid} may not pass ${closed}`
  const major = await majorOf(bin, osUser)
  if (typeof major === 'string') return major
  if (major < MAJOR_MIN) return `version ${major} is older than ${MAJOR_MIN}`
  return { postgres: join(bin, 'postgres'), initdb: join(bin, 'initdb'), major }
}

async function* candidates(folder: string, osUser: OsUser): AsyncGenerator<string> {
  const native = await findNativePackage()
  if (native !== undefined) yield prepareNativePackage(native, folder, osUser)
  yield* systemCandidates()
}

async function* systemCandidates(): AsyncGenerator<string> {
  const seen = new Set<string>()
  for (const searched of [...searchPath(), ...(await packageFolders())]) {
    const bin = await findServer(searched)
    if (bin === undefined || seen.has(bin)) continue
    seen.add(bin)
    yield bin
  }
}

function searchPath(): string[] {
  return (process.env.PATH ?? '').split(delimiter).filter((folder) => folder.startsWith('/'))
}

async function packageFolders(): Promise<string[]> {
  const found: { bin: string; major: number }[] = []
  for (const [parent, name, bin] of PACKAGE_FOLDERS) {
    for (const entry of await readdir(parent).catch(() => [])) {
      const major = name.exec(entry)?.[1]
      if (major !== undefined) found.push({ bin: join(parent, entry, bin), major: Number(major) })
    }
  }
  return found.sort((a, b) => b.major - a.major).map(({ bin }) => bin)
}

/** Finds the real folder of `postgres` and `initdb`, because PATH often has only links. */
async function findServer(folder: string): Promise<string | undefined> {
  try {
    const bin = dirname(await realpath(join(folder, 'postgres')))
    await access(join(bin, 'initdb'), constants.X_OK)
    return bin
  } catch {
    return undefined
  }
}

/** Returns the major version, or the reason why the server does not run. */
async function majorOf(bin: string, osUser: OsUser): Promise<number | string> {
  try {
    const { command, args, options } = commandAs(osUser, join(bin, 'postgres'), ['--version'], '/')
    const { stdout } = await run(command, args, { ...options, timeout: VERSION_MILLISECONDS_MAX })
    const major = /\(PostgreSQL\) (\d+)/.exec(stdout)?.[1]
    return major === undefined ? `unknown version ${stdout.trim()}` : Number(major)
  } catch (error) {
    // The file exists, so the missing file is the loader that the file names.
    if (errnoOf(error) === 'ENOENT')
      return 'built for glibc, and this system has another C library (musl?)'
    return messageOf(error).trim().split('\n').at(-1) ?? 'does not run'
  }
}
