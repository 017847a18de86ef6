import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import { ADMIN_USER } from '../auth/credentials.ts'
import { generateSecret, hashSecret } from '../auth/secrets.ts'
import type { Config } from '../config/config.ts'
import { PASSWORD_CHARACTERS_MIN } from '../config/limits.ts'
import { ensureCredential } from '../db/auth/credentials.ts'
import type { Queryable } from '../db/database.ts'
import { StartError } from './cleanup.ts'

/** The source of the admin password. */
export type AdminPassword = {
  /** Hash of the configured password. Undefined when it is generated: then the database has its hash. */
  readonly configuredSha256: Buffer | undefined
  /** The password, when this start generated it. */
  readonly generated: string | undefined
  /** The file with the password. Undefined when a variable has it, or when it is on another machine. */
  readonly file: string | undefined
}

/** The name of the file in the data folder. */
export const ADMIN_PASSWORD_FILE = 'admin-password'
const OWNER_ONLY = 0o600

/**
 * Ensures the `admin` credential: the configured password, or one that the first start generates.
 * Postgres keeps the hash. A file in the data folder, readable by its owner only, keeps the generated
 * password for an operator who missed the first start.
 */
export async function ensureAdminPassword(
  db: Queryable,
  dataFolder: string,
  { adminPassword: given, adminPasswordFile }: Config,
): Promise<AdminPassword> {
  if (given !== undefined) {
    return { configuredSha256: hashSecret(given), generated: undefined, file: adminPasswordFile }
  }
  const file = join(dataFolder, ADMIN_PASSWORD_FILE)
  const stored = await readPassword(file)
  // File first, then row: a crash in between leaves a file that the next start uses.
  const secret = stored ?? (await writePassword(file))
  const credential = await ensureCredential(db, ADMIN_USER, hashSecret(secret))
  if (credential.secretSha256.equals(hashSecret(secret)) && !credential.revoked) {
    return {
      configuredSha256: undefined,
      generated: stored === undefined ? secret : undefined,
      file,
    }
  }
  // Another replica, or an earlier installation with another data folder, created the credential, or
  // it was revoked.
  return { configuredSha256: undefined, generated: undefined, file: undefined }
}

async function readPassword(file: string): Promise<string | undefined> {
  try {
    const password = (await readFile(file, 'utf8')).trim()
    if (password === '') return undefined
    if (password.length < PASSWORD_CHARACTERS_MIN) {
      throw new StartError(
        `the password in ${file} must have at least ${PASSWORD_CHARACTERS_MIN} characters; put a longer one there`,
      )
    }
    return password
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
