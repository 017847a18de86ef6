import { execFile } from 'node:child_process'
import {
  chmod,
  chown,
  lchown,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
} from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { errnoOf } from '../async/errno.ts'
import type { Binaries } from './binaries.ts'
import { EmbeddedPostgresError, messageOf } from './errors.ts'
import { commandAs, type OsUser } from './os-user.ts'
import { findRunningPostmaster } from './postmaster.ts'
import { isAnotherProcess } from './processes.ts'
import { USER } from './settings.ts'

const INITDB_MILLISECONDS_MAX = 120_000
const UNFINISHED = /^cluster\.(\d+)\.new$/

const run = promisify(execFile)

/** Makes the folder, for the user of Postgres only; root may enter every folder. */
export async function preparePostgresFolder(folder: string, osUser: OsUser): Promise<void> {
  try {
    await mkdir(dirname(folder), { recursive: true })
    await makePrivateFolder(folder, osUser)
  } catch (cause) {
    throw new EmbeddedPostgresError(
      `cannot prepare ${folder} for Postgres (${messageOf(cause)}); give it to the user that runs rookery, or set ROOKERY_DATA_DIR to another folder, or ROOKERY_DATABASE_URL to a Postgres of your own`,
      { cause },
    )
  }
}

/** Makes a folder that only its user may enter. */
export async function makePrivateFolder(folder: string, osUser: OsUser): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await chown(folder, osUser.uid, osUser.gid)
  await chmod(folder, 0o700)
}

/** Returns the major version of the data, or undefined when there are no data. */
export async function findDataMajor(cluster: string): Promise<number | undefined> {
  try {
    return Number.parseInt(await readFile(join(cluster, 'PG_VERSION'), 'utf8'), 10)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw notReadable(cluster, error)
  }
}

/** Creates a missing cluster, and makes the user its owner. */
export async function prepareCluster(
  cluster: string,
  binaries: Binaries,
  osUser: OsUser,
): Promise<void> {
  await removeUnfinished(dirname(cluster))
  if ((await findDataMajor(cluster)) === undefined) await initialize(cluster, binaries, osUser)
  const { uid } = await stat(cluster)
  if (uid === osUser.uid) return
  if (osUser.via === 'self') throw notReadable(cluster, new Error(`it belongs to uid ${uid}`))
  const running = await findRunningPostmaster(cluster)
  if (running !== undefined) {
    throw new EmbeddedPostgresError(
      `a Postgres of uid ${uid} (pid ${running.pid}) still runs on ${cluster}; stop it, or start rookery as that user`,
    )
  }
  await changeOwner(cluster, osUser)
}

/**
 * Creates the cluster aside and moves it into place, so a cluster is complete or absent. The folder's name
 * has the pid, so other processes leave it alone while this one runs.
 */
async function initialize(cluster: string, binaries: Binaries, osUser: OsUser): Promise<void> {
  const aside = `${cluster}.${process.pid}.new`
  try {
    await makePrivateFolder(aside, osUser)
    // Every client of the socket is trusted: its folder has mode 0700, so only the user and root may
    // enter, and both may read the files anyway.
    const { command, args, options } = commandAs(osUser, binaries.initdb, [
      ...['-D', aside, '-U', USER, '-E', 'UTF8', '--locale=C', '--auth=trust'],
      ...['--data-checksums', '--no-instructions'],
    ])
    await run(command, args, { ...options, timeout: INITDB_MILLISECONDS_MAX })
    await rename(aside, cluster)
    await syncFolder(dirname(cluster))
  } catch (error) {
    await rm(aside, { recursive: true, force: true })
    // Another start was faster. The lock decides which process may use the cluster.
    if ((await findDataMajor(cluster)) !== undefined) return
    throw initdbFailed(cluster, error)
  }
}

function initdbFailed(cluster: string, cause: unknown): EmbeddedPostgresError {
  const code = errnoOf(cause)
  if (code === 'ENOTEMPTY' || code === 'EEXIST') {
    return new EmbeddedPostgresError(
      `${cluster} is not empty, and has no Postgres data; move it away`,
      { cause },
    )
  }
  const lines = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).split('\n') : []
  const why =
    lines.find((line) => /error|fatal/i.test(line)) ?? messageOf(cause).trim().split('\n').at(-1)
  return new EmbeddedPostgresError(
    `initdb failed to create ${cluster} (${why}); fix that, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
    { cause },
  )
}

async function removeUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = UNFINISHED.exec(name)?.[1]
    if (pid === undefined || isAnotherProcess(Number(pid))) continue
    // An initdb that outlived its parent may still write there, so removing may need a second attempt.
    await rm(join(folder, name), { recursive: true, force: true, maxRetries: 10 })
  }
}

/** Changes the owner of data that root restored or another user made. The top folder is last: it marks the end. */
async function changeOwner(cluster: string, osUser: OsUser): Promise<void> {
  for (const name of await readdir(cluster, { recursive: true })) {
    await lchown(join(cluster, name), osUser.uid, osUser.gid)
  }
  await chown(cluster, osUser.uid, osUser.gid)
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function notReadable(cluster: string, cause: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `cannot use ${cluster} as uid ${process.getuid?.()} (${messageOf(cause)}); start rookery as the folder's owner, or give the folder to this user with chown -R`,
    { cause },
  )
}
