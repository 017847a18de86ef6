import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import { ADMIN_USER } from '../auth/credentials.ts'
import { generateSecret, hashSecret } from '../auth/secrets.ts'
import { ensureCredential } from '../db/auth/credentials.ts'
import type { Queryable } from '../db/database.ts'

/** How the operator comes to know the password. */
export type AdminPassword = {
  /** Hash of the password that the environment gives; the generated one is in the database. */
  readonly configuredSha256: Buffer | undefined
  /** The password itself when this start made it. */
  readonly generated: string | undefined
  /** The file that has it; undefined when it came from the environment or lies elsewhere. */
  readonly file: string | undefined
}

/** In the data folder. */
export const ADMIN_PASSWORD_FILE = 'admin-password'
const OWNER_ONLY = 0o600

/**
 * The `admin` credential: the given password, or the one generated on first start. Postgres keeps
 * its hash; the file beside the data keeps the password, for its owner only, because the operator
 * who missed the first start needs it.
 */
export async function ensureAdminPassword(
  db: Queryable,
  dataFolder: string,
  givenPassword: string | undefined,
): Promise<AdminPassword> {
  if (givenPassword !== undefined) {
    return { configuredSha256: hashSecret(givenPassword), generated: undefined, file: undefined }
  }
  const file = join(dataFolder, ADMIN_PASSWORD_FILE)
  const stored = await readPassword(file)
  // Bytes first, then the row: a crash in between leaves a file that the next start takes up.
  const secret = stored ?? (await writePassword(file))
  const credential = await ensureCredential(db, ADMIN_USER, hashSecret(secret))
  if (credential.secretSha256.equals(hashSecret(secret)) && !credential.revoked) {
    return {
      configuredSha256: undefined,
      generated: stored === undefined ? secret : undefined,
      file,
    }
  }
  // Another replica, or an earlier installation with another data folder, made the credential; or
  // it was revoked.
  return { configuredSha256: undefined, generated: undefined, file: undefined }
}

async function readPassword(file: string): Promise<string | undefined> {
  try {
    const password = (await readFile(file, 'utf8')).trim()
    return password === '' ? undefined : password
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

async function writePassword(file: string): Promise<string> {
  const secret = generateSecret()
  await writeFile(file, `${secret}\n`, { mode: OWNER_ONLY, flush: true })
  await chmod(file, OWNER_ONLY)
  return secret
}
