import { join } from 'node:path'
import type { RegistryIssuer } from '../auth/access-tokens.ts'
import { type MasterKey, MasterKeyError, openMasterKey } from '../auth/master-key.ts'
import { KeyRing } from '../auth/signing-keys.ts'
import type { Config } from '../config/config.ts'
import { listSigningKeys } from '../db/auth/signing-keys.ts'
import type { Database } from '../db/database.ts'
import { findInstallationId } from '../db/installation.ts'
import { StartError } from './cleanup.ts'

/** The name of the file in the data folder. */
export const MASTER_KEY_FILE = 'master-key'

/** The database, and the folder with the secrets of this machine. */
export type KeyStores = { readonly db: Database; readonly dataFolder: string }

/** Returns the names of this registry in tokens: the public URL, or the installation's id. */
export async function findIssuer(db: Database, { publicUrl }: Config): Promise<RegistryIssuer> {
  if (publicUrl !== undefined) return { url: publicUrl, service: new URL(publicUrl).host }
  // Replicas on different addresses then still accept each other's tokens.
  const id = await findInstallationId(db)
  return { url: `urn:uuid:${id}`, service: `rookery-${id}` }
}

/** Opens the signing keys and the master key, which the first start generates. Throws StartError. */
export async function openSigningKeys(
  { db, dataFolder }: KeyStores,
  config: Config,
): Promise<{ keys: KeyRing; masterKey: MasterKey }> {
  return asStartError(async () => {
    const inUse = (await listSigningKeys(db)).length > 0
    const masterKey = await openMasterKey(masterKeyPath(dataFolder, config), !inUse)
    const keys = new KeyRing(db, masterKey)
    await keys.open()
    return { keys, masterKey }
  })
}

/** Opens the master key, and generates a missing one. Throws StartError. */
export async function ensureMasterKey(dataFolder: string, config: Config): Promise<MasterKey> {
  return asStartError(() => openMasterKey(masterKeyPath(dataFolder, config), true))
}

/** Returns the path of the master key's file. */
export function masterKeyPath(dataFolder: string, { masterKeyFile: given }: Config): string {
  return given ?? join(dataFolder, MASTER_KEY_FILE)
}

async function asStartError<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (!(cause instanceof MasterKeyError)) throw cause
    throw new StartError(cause.message, { cause })
  }
}
