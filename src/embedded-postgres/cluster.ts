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

/** Makes `folder`, for Postgres' identity alone; root gets in everywhere. */
export async function preparePostgresFolder(folder: string, identity: OsUser): Promise<void> {
  try {
    await mkdir(dirname(folder), { recursive: true })
    await makePrivateFolder(folder, identity)
  } catch (cause) {
    throw new EmbeddedPostgresError(
      `cannot make ${folder} ready for Postgres (${messageOf(cause)}); give it to the user that runs rookery, or set ROOKERY_DATA_DIR to another place, or ROOKERY_DATABASE_URL to a Postgres of your own`,
      { cause },
    )
  }
}

/** Makes a folder that its user alone may enter. */
export async function makePrivateFolder(folder: string, identity: OsUser): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await chown(folder, identity.uid, identity.gid)
  await chmod(folder, 0o700)
}

/** The major version of the Postgres that made the data, or undefined when there are none. */
export async function findDataMajor(cluster: string): Promise<number | undefined> {
  try {
    return Number.parseInt(await readFile(join(cluster, 'PG_VERSION'), 'utf8'), 10)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw notReadable(cluster, error)
  }
}

/** Makes the cluster where it lacks, and sees to it that it belongs to the identity. */
export async function prepareCluster(
  cluster: string,
  binaries: Binaries,
  identity: OsUser,
): Promise<void> {
  await removeUnfinished(dirname(cluster))
  if ((await findDataMajor(cluster)) === undefined) await initialize(cluster, binaries, identity)
  const { uid } = await stat(cluster)
  if (uid === identity.uid) return
  if (identity.via === 'self') throw notReadable(cluster, new Error(`it belongs to uid ${uid}`))
  const running = await findRunningPostmaster(cluster)
  if (running !== undefined) {
    throw new EmbeddedPostgresError(
      `a Postgres of uid ${uid} (pid ${running.pid}) still runs on ${cluster}; stop it, or start rookery as that user`,
    )
  }
  await giveAll(cluster, identity)
}

/**
 * initdb works aside and the result is moved into place, so a cluster is there whole or not at
 * all. The name tells who works there: what a living process makes is left alone.
 */
async function initialize(cluster: string, binaries: Binaries, identity: OsUser): Promise<void> {
  const aside = `${cluster}.${process.pid}.new`
  try {
    await makePrivateFolder(aside, identity)
    // Whoever opens the socket is trusted: it lies in a folder of mode 0700, so only the identity
    // and root get there, and both could read the files anyway.
    const { command, args, options } = commandAs(identity, binaries.initdb, [
      ...['-D', aside, '-U', USER, '-E', 'UTF8', '--locale=C', '--auth=trust'],
      ...['--data-checksums', '--no-instructions'],
    ])
    await run(command, args, { ...options, timeout: INITDB_MILLISECONDS_MAX })
    await rename(aside, cluster)
    await syncFolder(dirname(cluster))
  } catch (error) {
    await rm(aside, { recursive: true, force: true })
    // Another start was faster. Who may use the cluster is decided by the lock.
    if ((await findDataMajor(cluster)) !== undefined) return
    throw initdbFailed(cluster, error)
  }
}

function initdbFailed(cluster: string, cause: unknown): EmbeddedPostgresError {
  const code = errnoOf(cause)
  if (code === 'ENOTEMPTY' || code === 'EEXIST') {
    return new EmbeddedPostgresError(
      `${cluster} is not empty, and holds no Postgres data; move it away`,
      { cause },
    )
  }
  const lines = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).split('\n') : []
  const why =
    lines.find((line) => /error|fatal/i.test(line)) ?? messageOf(cause).trim().split('\n').at(-1)
  return new EmbeddedPostgresError(
    `initdb could not make ${cluster} (${why}); mend that, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
    { cause },
  )
}

async function removeUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = UNFINISHED.exec(name)?.[1]
    if (pid === undefined || isAnotherProcess(Number(pid))) continue
    // An initdb that outlived its parent may still write there, so removing may need a second try.
    await rm(join(folder, name), { recursive: true, force: true, maxRetries: 10 })
  }
}

/** For data that were restored by root, or made by another user. The top comes last, as the mark. */
async function giveAll(cluster: string, identity: OsUser): Promise<void> {
  for (const name of await readdir(cluster, { recursive: true })) {
    await lchown(join(cluster, name), identity.uid, identity.gid)
  }
  await chown(cluster, identity.uid, identity.gid)
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
