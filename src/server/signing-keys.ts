import { join } from 'node:path'
import type { RegistryIssuer } from '../auth/access-tokens.ts'
import { type MasterKey, MasterKeyError, openMasterKey } from '../auth/master-key.ts'
import { KeyRing } from '../auth/signing-keys.ts'
import type { Config } from '../config/config.ts'
import { listSigningKeys } from '../db/auth/signing-keys.ts'
import type { Database } from '../db/database.ts'
import { findInstallationId } from '../db/installation.ts'
import { StartError } from './cleanup.ts'

/** In the data folder. */
export const MASTER_KEY_FILE = 'master-key'

/** The database, and where secrets of this machine lie. */
export type KeyStores = { readonly db: Database; readonly dataFolder: string }

/** What tokens call this registry. */
export async function findIssuer(db: Database, { publicUrl }: Config): Promise<RegistryIssuer> {
  if (publicUrl !== undefined) return { url: publicUrl, service: new URL(publicUrl).host }
  // Replicas on any address then still believe each other's tokens.
  const id = await findInstallationId(db)
  return { url: `urn:uuid:${id}`, service: `rookery-${id}` }
}

/** The keys that sign, made on first start, and what they are encrypted with. Throws StartError. */
export async function openSigningKeys(
  { db, dataFolder }: KeyStores,
  config: Config,
): Promise<{ keys: KeyRing; masterKey: MasterKey }> {
  return forOperators(async () => {
    const inUse = (await listSigningKeys(db)).length > 0
    const masterKey = await openMasterKey(masterKeyPath(dataFolder, config), !inUse)
    const keys = new KeyRing(db, masterKey)
    await keys.open()
    return { keys, masterKey }
  })
}

/** The master key, made when it is missing. Throws StartError. */
export async function ensureMasterKey(dataFolder: string, config: Config): Promise<MasterKey> {
  return forOperators(() => openMasterKey(masterKeyPath(dataFolder, config), true))
}

/** Where the master key lies. */
export function masterKeyPath(dataFolder: string, { masterKeyFile: given }: Config): string {
  return given ?? join(dataFolder, MASTER_KEY_FILE)
}

async function forOperators<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (!(cause instanceof MasterKeyError)) throw cause
    throw new StartError(cause.message, { cause })
  }
}
