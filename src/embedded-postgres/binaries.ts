import { execFile } from 'node:child_process'
import { access, constants, readdir, realpath } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { errnoOf } from '../async/errno.ts'
import { EmbeddedPostgresError, messageOf } from './errors.ts'
import { findNativePackage, prepareNativePackage } from './native-package.ts'
import { findClosedFolder, type OsUser } from './os-user.ts'

export type Binaries = {
  readonly postgres: string
  readonly initdb: string
  readonly major: number
}

const MAJOR_MIN = 14
const VERSION_MILLISECONDS_MAX = 5_000
// Where the distributions put what they leave out of PATH: Debian, the PGDG packages, Homebrew.
const PLACES: readonly [parent: string, name: RegExp, bin: string][] = [
  ['/usr/lib/postgresql', /^(\d+)$/, 'bin'],
  ['/usr', /^pgsql-(\d+)$/, 'bin'],
  ['/opt/homebrew/opt', /^postgresql@(\d+)$/, 'bin'],
  ['/usr/local/opt', /^postgresql@(\d+)$/, 'bin'],
]

const run = promisify(execFile)

/**
 * The binaries to use: those of the npm package, else those of the system; of the major version
 * `dataMajor` when there are data already. Throws EmbeddedPostgresError when none fits.
 */
export async function findBinaries(
  folder: string,
  identity: OsUser,
  dataMajor: number | undefined,
): Promise<Binaries> {
  const rejected: string[] = []
  const otherMajors: number[] = []
  for await (const bin of candidates(folder, identity)) {
    const closed = await findClosedFolder(identity, join(bin, 'postgres'))
    const major =
      closed === undefined ? await majorOf(bin) : `uid ${identity.uid} may not pass ${closed}`
    if (typeof major === 'string') rejected.push(`${bin}: ${major}`)
    else if (major < MAJOR_MIN) rejected.push(`${bin}: version ${major} is older than ${MAJOR_MIN}`)
    else if (dataMajor !== undefined && dataMajor !== major) otherMajors.push(major)
    else return { postgres: join(bin, 'postgres'), initdb: join(bin, 'initdb'), major }
  }
  if (otherMajors.length > 0) {
    throw new EmbeddedPostgresError(
      `the data in ${folder} were made by Postgres ${dataMajor}, and the binaries here are Postgres ${[...new Set(otherMajors)].join(' and ')}; install Postgres ${dataMajor} beside them, or dump the data with ${dataMajor}, move the folder away and restore`,
    )
  }
  const why = rejected.length === 0 ? 'none is installed' : rejected.join('; ')
  throw new EmbeddedPostgresError(
    `no Postgres to run (${why}); install Postgres ${MAJOR_MIN} or newer, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
  )
}

async function* candidates(folder: string, identity: OsUser): AsyncGenerator<string> {
  const native = await findNativePackage()
  if (native !== undefined) yield prepareNativePackage(native, folder, identity)
  const seen = new Set<string>()
  for (const place of [...searchPath(), ...(await distributionPlaces())]) {
    const bin = await findServer(place)
    if (bin === undefined || seen.has(bin)) continue
    seen.add(bin)
    yield bin
  }
}

function searchPath(): string[] {
  return (process.env.PATH ?? '').split(delimiter).filter((folder) => folder.startsWith('/'))
}

async function distributionPlaces(): Promise<string[]> {
  const found: { bin: string; major: number }[] = []
  for (const [parent, name, bin] of PLACES) {
    for (const entry of await readdir(parent).catch(() => [])) {
      const major = name.exec(entry)?.[1]
      if (major !== undefined) found.push({ bin: join(parent, entry, bin), major: Number(major) })
    }
  }
  return found.sort((a, b) => b.major - a.major).map((place) => place.bin)
}

/** The folder that really holds `postgres`, when `initdb` is there too; PATH often has only links. */
async function findServer(place: string): Promise<string | undefined> {
  try {
    const bin = dirname(await realpath(join(place, 'postgres')))
    await access(join(bin, 'initdb'), constants.X_OK)
    return bin
  } catch {
    return undefined
  }
}

/** The major version, or why the server does not run. */
async function majorOf(bin: string): Promise<number | string> {
  try {
    const { stdout } = await run(join(bin, 'postgres'), ['--version'], {
      cwd: '/',
      env: {},
      timeout: VERSION_MILLISECONDS_MAX,
    })
    const major = /\(PostgreSQL\) (\d+)/.exec(stdout)?.[1]
    return major === undefined ? `unknown version ${stdout.trim()}` : Number(major)
  } catch (error) {
    // The file is there, so what was not found is the loader that it names.
    if (errnoOf(error) === 'ENOENT')
      return 'made for glibc, and this system has another C library (musl?)'
    return messageOf(error).trim().split('\n').at(-1) ?? 'does not run'
  }
}
