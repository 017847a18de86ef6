import { cp, lstat, readdir, rename, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { findBinaries, findFormerBinaries } from './binaries.ts'
import { COMPLETE, completeUpgrade, findDataMajor, syncFolder } from './cluster.ts'
import { EmbeddedPostgresError } from './errors.ts'
import { type PostgresFolder, preparePostgresFolder } from './folder.ts'
import type { Log } from './log.ts'
import { findRunningPostmaster, stopPostmaster } from './postmaster.ts'
import type { PostmasterIdentity } from './processes.ts'
import { SUPERUSER } from './settings.ts'
import { findEntry } from './small-file.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from './supervisor.ts'
import { removeTree } from './tree.ts'

type Connection = EmbeddedPostgres['connection']

/** Two servers: one on the present data, and one of another major version on an empty cluster. */
export type OpenUpgrade = {
  readonly from: { readonly major: number; readonly superuser: Connection }
  readonly to: {
    readonly major: number
    readonly owner: Connection
    readonly superuser: Connection
  }
  /** Stops both servers, and puts the new cluster in the place of the old one. */
  finish(): Promise<KeptCluster>
  /** Stops both servers. Without `finish`, the data stay as they are. */
  close(): Promise<void>
}

/** The old cluster, which stays until somebody removes it. */
export type KeptCluster = { readonly path: string; readonly bytes: number }

export type UpgradeOptions = {
  /** `<data>/postgres`. */
  readonly folder: string
  readonly log: Log
  /** A folder with the binaries of the old major version, or their npm package. */
  readonly fromBinaries: string | undefined
}

/** The folder of the new cluster while it is made. */
const ASIDE = 'upgrade'
/** The files of a new cluster and its log, beside the rows. */
const NEW_CLUSTER_BYTES = 512 * 1024 * 1024
const FOLDERS_MAX = 100_000

/**
 * Starts a server on the data of an older major version, and one of this release's version on an empty cluster beside
 * them. Returns the version alone when the data have it already. Throws EmbeddedPostgresError when there are no data,
 * they are newer, a server runs, or the disk has not enough space.
 */
export async function openUpgrade(
  options: UpgradeOptions,
): Promise<OpenUpgrade | { readonly major: number }> {
  const { log } = options
  const { folder, osUser }: PostgresFolder = await preparePostgresFolder(options.folder, true)
  await completeUpgrade(folder)
  const cluster = join(folder, 'cluster')
  const dataMajor = await findDataMajor(cluster, osUser)
  if (dataMajor === undefined) throw new EmbeddedPostgresError(`${folder} has no data to upgrade`)
  const { major } = await findBinaries(folder, osUser, undefined)
  if (major === dataMajor) return { major }
  if (major < dataMajor) {
    throw new EmbeddedPostgresError(
      `the data in ${folder} belong to Postgres ${dataMajor}, which is newer than Postgres ${major} of this release: run the release of rookery that wrote them`,
    )
  }
  const kept = join(folder, `cluster.${dataMajor}`)
  if ((await findEntry(kept)) !== undefined) {
    throw new EmbeddedPostgresError(
      `${kept} is there from an earlier upgrade; move it away, or remove it`,
    )
  }
  const former = await findFormerBinaries(folder, osUser, dataMajor, options.fromBinaries)
  const onLost = (error: Error) => log.error({ error: error.message }, 'a server was lost')
  const from = await startEmbeddedPostgres({ folder, log, onLost, binaries: former })
  try {
    const aside = join(folder, ASIDE)
    await stopSurvivor({ uid: osUser.uid, cluster: join(aside, 'cluster') })
    await removeFolder(aside, osUser.via)
    await removeFolder(join(folder, COMPLETE), osUser.via)
    const bytes = await sizeOf(cluster)
    await assertSpace(folder, bytes)
    const to = await startAside(folder, aside, log, onLost)
    const close = async () => {
      await to.stop()
      await from.stop()
      await removeFolder(aside, osUser.via)
    }
    return {
      from: { major: dataMajor, superuser: { ...from.connection, user: SUPERUSER } },
      to: { major, owner: to.connection, superuser: { ...to.connection, user: SUPERUSER } },
      close,
      async finish() {
        await to.stop()
        await from.stop()
        await rename(join(aside, 'cluster'), join(folder, COMPLETE))
        await syncFolder(folder)
        await rename(cluster, kept)
        await completeUpgrade(folder)
        return { path: kept, bytes }
      },
    }
  } catch (error) {
    await from.stop()
    throw error
  }
}

async function startAside(
  folder: string,
  aside: string,
  log: Log,
  onLost: (error: Error) => void,
): Promise<EmbeddedPostgres> {
  const { osUser } = await preparePostgresFolder(aside, true)
  // The cluster keeps its user: as root, that is the uid of the folder.
  if (osUser.via === 'spawn') await cp(join(folder, 'uid'), join(aside, 'uid'), { force: true })
  return startEmbeddedPostgres({ folder: aside, log, onLost })
}

/** Stops the new server of an upgrade that was killed. */
async function stopSurvivor(identity: PostmasterIdentity): Promise<void> {
  const running = await findRunningPostmaster(identity)
  if (running !== undefined) await stopPostmaster(running.pid, identity)
}

async function assertSpace(folder: string, clusterBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  const [free, needed] = [bavail * bsize, clusterBytes + NEW_CLUSTER_BYTES]
  if (free >= needed) return
  throw new EmbeddedPostgresError(
    `an upgrade needs ${mebibytes(needed)} in ${folder}, and ${mebibytes(free)} are free; make room, and run it again`,
  )
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 1024 / 1024)} MiB`
}

async function sizeOf(top: string): Promise<number> {
  let bytes = 0
  const folders = [top]
  for (let at = 0; at < folders.length && at < FOLDERS_MAX; at += 1) {
    const folder = folders[at] ?? top
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) folders.push(path)
      else bytes += await bytesOf(path)
    }
  }
  return bytes
}

// Postgres runs, and may remove a file meanwhile.
async function bytesOf(path: string): Promise<number> {
  try {
    return (await lstat(path)).size
  } catch {
    return 0
  }
}

async function removeFolder(path: string, via: 'self' | 'spawn'): Promise<void> {
  if ((await findEntry(path)) === undefined) return
  if (via === 'spawn') await removeTree(path)
  else await rm(path, { recursive: true, force: true })
}
