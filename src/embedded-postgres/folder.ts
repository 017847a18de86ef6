import { chmod, chown, lchown, mkdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import { EmbeddedPostgresError, messageOf } from './errors.ts'
import { findCurrentUser, NOBODY, type OsUser, ROOT } from './os-user.ts'
import { ensureOwnUid, OWN_UID_FILE, readOwnUid } from './own-uid.ts'
import { assertNoFormerPostmaster } from './postmaster.ts'
import { findEntry } from './small-file.ts'
import { removeTree } from './tree.ts'

/** The folder of the embedded Postgres, and the user that runs it. */
export type PostgresFolder = { readonly folder: string; readonly osUser: OsUser }

/** Folders that releases before the uid of its own made, and `nobody` could write to. */
const FORMER = 'native'

/**
 * Makes the folder, or checks the owner of an existing one. As root, the folder belongs to root, and Postgres may pass
 * it and no more, so that its user cannot replace anything in it. Throws EmbeddedPostgresError when the folder belongs
 * to another user, before it changes anything. `mayAdopt`: data that root restored, or that a former release ran as
 * `nobody`, may get the user of Postgres.
 */
export async function preparePostgresFolder(
  path: string,
  mayAdopt: boolean,
): Promise<PostgresFolder> {
  const { uid, gid } = findCurrentUser()
  try {
    await mkdir(dirname(path), { recursive: true })
    const folder = join(await realpath(dirname(path)), basename(path))
    if (uid !== ROOT) {
      await makeOwn(folder, uid)
      return { folder, osUser: { uid, gid, via: 'self' } }
    }
    return await prepareAsRoot(folder, mayAdopt)
  } catch (cause) {
    if (cause instanceof EmbeddedPostgresError) throw cause
    const why =
      errnoOf(cause) === 'EINVAL'
        ? 'this container has no such uid; map 65536 uids into it, or start rookery as an ordinary user'
        : 'give it to the user that runs rookery, or set ROOKERY_DATA_DIR to another folder'
    throw new EmbeddedPostgresError(
      `cannot prepare ${path} for Postgres (${messageOf(cause)}): ${why}, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
      { cause },
    )
  }
}

async function makeOwn(folder: string, uid: number): Promise<void> {
  const found = await findEntry(folder)
  if (found === undefined) {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    return
  }
  if (!found.isDirectory()) throw notAFolder(folder)
  if (found.uid !== uid) throw belongsToAnother(folder, found.uid)
  await chmod(folder, 0o700)
}

async function prepareAsRoot(folder: string, mayAdopt: boolean): Promise<PostgresFolder> {
  await assertOnlyRootChanges(dirname(folder))
  await assertOwnerKnown(folder, mayAdopt)
  const found = await findEntry(folder)
  if (found === undefined) await mkdir(folder, { recursive: true, mode: 0o700 })
  else if (!found.isDirectory()) throw notAFolder(folder)
  else if (found.uid === NOBODY) {
    await assertNoFormerPostmaster(join(folder, 'cluster'))
    // A former release ran Postgres as nobody. From here on, nobody cannot change entries of the folder.
    await lchown(folder, ROOT, ROOT)
    await chmod(folder, 0o700)
  } else if (found.uid !== ROOT) throw belongsToAnother(folder, found.uid)
  const former = join(folder, FORMER)
  if ((await findEntry(former)) !== undefined) await removeTree(former)
  const uid = await ensureOwnUid(folder)
  await chown(folder, ROOT, uid)
  await chmod(folder, 0o710)
  return { folder, osUser: { uid, gid: uid, via: 'spawn' } }
}

/** Throws EmbeddedPostgresError for data whose owner is not the user of this Postgres, and changes nothing. */
async function assertOwnerKnown(folder: string, mayAdopt: boolean): Promise<void> {
  const cluster = join(folder, 'cluster')
  const owner = (await findEntry(cluster))?.uid
  if (owner === undefined || owner === (await readOwnUid(join(folder, OWN_UID_FILE)))) return
  if (owner !== ROOT && owner !== NOBODY) throw belongsToAnother(cluster, owner)
  if (mayAdopt) return
  throw new EmbeddedPostgresError(
    `${cluster} belongs to uid ${owner}, and only the start of the server changes that: run rookery serve as root first`,
  )
}

/** Root follows paths in this folder, so no other user may exchange its entries. */
async function assertOnlyRootChanges(folder: string): Promise<void> {
  const { uid, gid, mode } = await stat(folder)
  if (uid !== ROOT) throw belongsToAnother(folder, uid)
  const others = gid === ROOT ? 0o002 : 0o022
  const isSticky = (mode & 0o1000) !== 0
  if ((mode & others) !== 0 && !isSticky) {
    throw new EmbeddedPostgresError(
      `other users may change entries of ${folder}, and root would follow them; run: chmod go-w '${folder}'`,
    )
  }
}

/** The folder belongs to another user, who must stay its owner. */
export function belongsToAnother(path: string, owner: number): EmbeddedPostgresError {
  const how =
    owner === ROOT
      ? 'start rookery as root: sudo rookery …'
      : `start rookery as that user: sudo -u '#${owner}' rookery …`
  return new EmbeddedPostgresError(
    `${path} belongs to uid ${owner}, and this is uid ${process.getuid?.()}; ${how}, or set ROOKERY_DATA_DIR to another folder`,
  )
}

function notAFolder(path: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `${path} is no folder (a link or a file); move it away, or set ROOKERY_DATA_DIR to the folder itself`,
  )
}
