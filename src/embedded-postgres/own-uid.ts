import { randomInt } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { link, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import { EmbeddedPostgresError } from './errors.ts'
import { listPids } from './processes.ts'
import { readSmallFile } from './small-file.ts'

/** The uids that neither distributions nor systemd give out (systemd, "Users, Groups, UIDs and GIDs"). */
const UID_MIN = 60_706
const UID_MAX = 61_183
/** The name of the file in the folder of the embedded Postgres. */
export const OWN_UID_FILE = 'uid'
const ATTEMPTS_MAX = 100

/**
 * Returns the uid, also the gid, of the Postgres of a folder of root. The first call chooses it at random among
 * those that no user, group or process has, and stores it in a file of root. Throws EmbeddedPostgresError.
 */
export async function ensureOwnUid(folder: string): Promise<number> {
  const path = join(folder, OWN_UID_FILE)
  const stored = await readOwnUid(path)
  if (stored !== undefined) return stored
  const aside = `${path}.${process.pid}.new`
  const file = await open(aside, 'w', 0o600)
  try {
    await file.writeFile(`${chooseUid()}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  try {
    await link(aside, path)
  } catch (error) {
    // Another start was faster, and both use its uid.
    if (errnoOf(error) !== 'EEXIST') throw error
  } finally {
    await unlink(aside)
  }
  const chosen = await readOwnUid(path)
  if (chosen === undefined) throw new EmbeddedPostgresError(`${path} disappeared; start again`)
  return chosen
}

/** Returns the stored uid; undefined when there is none yet. Throws EmbeddedPostgresError. */
export async function readOwnUid(path: string): Promise<number | undefined> {
  const text = await readSmallFile(path, [process.getuid?.()])
  if (text === undefined) return undefined
  const uid = Number(text)
  if (uid >= UID_MIN && uid <= UID_MAX) return uid
  throw new EmbeddedPostgresError(
    `${path} must have a uid from ${UID_MIN} to ${UID_MAX}; write the uid of the folder cluster beside it, or remove the file`,
  )
}

function chooseUid(): number {
  const taken = takenIds()
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    const uid = randomInt(UID_MIN, UID_MAX + 1)
    if (!taken.has(uid)) return uid
  }
  throw new EmbeddedPostgresError(
    `no free uid from ${UID_MIN} to ${UID_MAX} for Postgres; start rookery as an ordinary user, or set ROOKERY_DATABASE_URL to a Postgres of your own`,
  )
}

/** The ids of users, groups and running processes. */
function takenIds(): Set<number> {
  const taken = new Set<number>()
  for (const file of ['/etc/passwd', '/etc/group']) {
    // |name:password:id:...|
    for (const line of textOf(file).split('\n')) taken.add(Number(line.split(':')[2]))
  }
  for (const pid of listPids()) {
    const uid = statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid
    if (uid !== undefined) taken.add(uid)
  }
  return taken
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
