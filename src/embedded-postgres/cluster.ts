import { execFile } from 'node:child_process'
import { chown, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { errnoOf } from '../async/errno.ts'
import type { Binaries } from './binaries.ts'
import { EmbeddedPostgresError, messageOf } from './errors.ts'
import { belongsToAnother } from './folder.ts'
import { commandAs, findClosedFolder, NOBODY, type OsUser, ROOT } from './os-user.ts'
import { assertNoFormerPostmaster } from './postmaster.ts'
import { isAnotherProcess } from './processes.ts'
import { SUPERUSER } from './settings.ts'
import { findEntry, readSmallFile } from './small-file.ts'
import { giveTree } from './tree.ts'

/** The user of initdb when we are root, and the first version that takes settings. */
const INITDB = { uid: NOBODY, setSince: 16 }
const INITDB_MILLISECONDS_MAX = 120_000
const UNFINISHED = /^cluster\.(\d+)\.new$/

/** The name of a new cluster that an upgrade completed, beside the old one. */
export const COMPLETE = 'cluster.complete'

const run = promisify(execFile)

/**
 * Returns the major version of the data, or undefined when there are no data. Follows no link, because the user of
 * Postgres can write to the cluster. Throws EmbeddedPostgresError when the data belong to another user.
 */
export async function findDataMajor(cluster: string, osUser: OsUser): Promise<number | undefined> {
  const found = await findEntry(cluster)
  if (found === undefined) return undefined
  if (!found.isDirectory()) {
    throw new EmbeddedPostgresError(`${cluster} is no folder (a link or a file); move it away`)
  }
  const owners = osUser.via === 'self' ? [osUser.uid] : [osUser.uid, ROOT, NOBODY]
  if (!owners.includes(found.uid)) throw belongsToAnother(cluster, found.uid)
  const text = await readSmallFile(join(cluster, 'PG_VERSION'), owners)
  return text === undefined ? undefined : Number.parseInt(text, 10)
}

/**
 * Moves a complete new cluster into the place of the old one, which was moved away before. A process that was killed
 * between these two steps leaves no cluster, and every start calls this.
 */
export async function completeUpgrade(folder: string): Promise<void> {
  const [cluster, complete] = [join(folder, 'cluster'), join(folder, COMPLETE)]
  if ((await findEntry(cluster)) !== undefined || (await findEntry(complete)) === undefined) return
  await rename(complete, cluster)
  await syncFolder(folder)
}

/**
 * Creates a missing cluster. As root, gives it to the user of Postgres, also one that root restored or that a former
 * release ran as `nobody`.
 */
export async function prepareCluster(
  cluster: string,
  binaries: Binaries,
  osUser: OsUser,
): Promise<void> {
  await removeUnfinished(dirname(cluster))
  if ((await findDataMajor(cluster, osUser)) === undefined) {
    await initialize(cluster, binaries, osUser)
  }
  const uid = (await findEntry(cluster))?.uid
  if (osUser.via === 'self' || uid === osUser.uid) return
  await assertNoFormerPostmaster(cluster)
  giveTree(cluster, osUser)
}

/**
 * Creates the cluster aside and moves it into place, so a cluster is complete or absent. The folder's name
 * has the pid, so other processes leave it alone while this one runs.
 */
async function initialize(cluster: string, binaries: Binaries, osUser: OsUser): Promise<void> {
  const aside = `${cluster}.${process.pid}.new`
  try {
    await mkdir(aside, { mode: 0o700 })
    if (osUser.via === 'spawn') await chown(aside, INITDB.uid, osUser.gid)
    // initdb needs a user with a name. The gid is still the one of this folder, so other processes of `nobody` can
    // neither pass the folder above nor trace initdb.
    const user = osUser.via === 'self' ? osUser : { ...osUser, uid: INITDB.uid }
    const { command, args, options } = commandAs(
      user,
      binaries.initdb,
      [
        ...['-D', await dataArgument(aside, osUser), '-U', SUPERUSER, '-E', 'UTF8'],
        ...['--locale=C', '--auth=peer', '--data-checksums', '--no-instructions'],
        // Memory in a file of the cluster, where /dev/shm would show it to other processes of `nobody`.
        ...(binaries.major >= INITDB.setSince ? ['-c', 'dynamic_shared_memory_type=mmap'] : []),
      ],
      aside,
    )
    await run(command, args, { ...options, timeout: INITDB_MILLISECONDS_MAX })
    if (osUser.via === 'spawn') giveTree(aside, osUser)
    await rename(aside, cluster)
    await syncFolder(dirname(cluster))
  } catch (error) {
    await rm(aside, { recursive: true, force: true })
    // Another start was faster. The lock decides which process may use the cluster.
    if ((await findDataMajor(cluster, osUser)) !== undefined) return
    if (error instanceof EmbeddedPostgresError) throw error
    throw initdbFailed(cluster, error)
  }
}

/**
 * Returns the cluster as Postgres and initdb name it. They start in the cluster, so below a folder that they may not
 * pass they name it by their own link to it.
 */
export async function dataArgument(cluster: string, osUser: OsUser): Promise<string> {
  return (await findClosedFolder(osUser, cluster)) === undefined ? cluster : '/proc/self/cwd'
}

function initdbFailed(cluster: string, cause: unknown): EmbeddedPostgresError {
  const code = errnoOf(cause)
  if (code === 'ENOTEMPTY' || code === 'EEXIST') {
    return new EmbeddedPostgresError(
      `${cluster} is not empty, and has no Postgres data; move it away`,
      { cause },
    )
  }
  return new EmbeddedPostgresError(
    `initdb failed to create ${cluster} (${initdbReason(cause)}); fix that, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
    { cause },
  )
}

// The end of its output says what it removes, and that a child process ended.
const CAUSE = /error|fatal|panic|cannot|could not|denied|no space|not found/i
const AFTERMATH = /removing|child process|^data directory|^\s*$/i

/** Returns the line of initdb that has the cause of its failure. */
export function initdbReason(cause: unknown): string {
  const { stderr = '', signal } = { ...(cause instanceof Error ? cause : {}) } as {
    readonly stderr?: string
    readonly signal?: string | null
  }
  const lines = stderr.split('\n').filter((line) => !AFTERMATH.test(line))
  const found = lines.find((line) => CAUSE.test(line))
  if (found !== undefined) return found.trim()
  if (signal) return `it was ended by ${signal}`
  return lines.at(-1)?.trim() ?? messageOf(cause).split('\n')[0] ?? 'unknown reason'
}

async function removeUnfinished(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = UNFINISHED.exec(name)?.[1]
    if (pid === undefined || isAnotherProcess(Number(pid))) continue
    // An initdb that outlived its parent may still write there, so removing may need a second attempt.
    await rm(join(folder, name), { recursive: true, force: true, maxRetries: 10 })
  }
}

/** Makes renames in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
