import { join } from 'node:path'
import { AuditLog } from './auth/audit.ts'
import { Authenticator } from './auth/authenticator.ts'
import { Brakes } from './auth/brakes.ts'
import { Credentials } from './auth/credentials.ts'
import { Drops } from './auth/drops.ts'
import { TokenIssuer } from './auth/issuing.ts'
import { KeyRing } from './auth/keys.ts'
import { type MasterKey, MasterKeyError, openMasterKey } from './auth/master-key.ts'
import { RevocationList, RevokedTokens } from './auth/revocations.ts'
import { type Issuer, Tokens } from './auth/tokens.ts'
import { TrustPolicies } from './auth/trust/policies.ts'
import { startUpkeep } from './auth/upkeep.ts'
import type { Config } from './config.ts'
import type { Database } from './db/database.ts'
import { findInstallationId } from './db/installation.ts'
import { listSigningKeys } from './db/signing-keys.ts'
import type { AuthorityParts } from './http/routes.ts'
import { StartError, type Starting } from './listening.ts'
import type { Log } from './log.ts'
import { GuardedClient } from './outgoing/client.ts'

/** In the data folder. */
export const MASTER_KEY_FILE = 'master-key'

/** The database, and where secrets of this machine lie. */
export type AuthorityState = { readonly db: Database; readonly dataFolder: string }

/**
 * Opens the keys and builds what decides about requests; `starting` learns how to stop it. Throws
 * StartError for keys that cannot be used.
 */
export async function openAuthority(
  { db, dataFolder }: AuthorityState,
  config: Config,
  adminSha256: Buffer | undefined,
  log: Log,
  starting: Starting,
): Promise<AuthorityParts & { readonly masterKey: MasterKey }> {
  const { keys, masterKey } = await openKeys({ db, dataFolder }, config)
  const issuer = await openIssuer(db, config)
  const tokens = new Tokens(keys, issuer)
  const revocations = new RevocationList(db)
  await revocations.refresh()
  const audit = new AuditLog(db, (error) => log.error({ err: error }, 'audit entries were lost'))
  const authenticator = new Authenticator({
    db,
    tokens,
    revocations,
    brakes: new Brakes(),
    adminSha256,
  })
  const upkeep = startUpkeep({
    db,
    keys,
    revocations,
    auditDays: config.auditDays,
    onError: (error) => log.error({ err: error }, 'keys and revocations could not be looked at'),
  })
  starting.did(async () => {
    await upkeep.stop()
    await audit.settle()
  })
  const client = openClient(config)
  starting.did(() => client.close())
  const policies = new TrustPolicies({ db, client })
  const tokenIssuer = new TokenIssuer({
    db,
    tokens,
    authenticator,
    audit,
    tokenSeconds: config.tokenSeconds,
    exchange: (identityToken) => policies.exchange(identityToken),
  })
  // Known here already, a list that cannot be read now is read again in a moment.
  const onRevoked = () => revocations.refresh().catch(() => {})
  const credentials = new Credentials(db, onRevoked)
  const revokedTokens = new RevokedTokens(db, onRevoked)
  const drops = new Drops({ db, authenticator, audit })
  return {
    issuer,
    keys,
    authenticator,
    tokenIssuer,
    credentials,
    policies,
    revokedTokens,
    drops,
    audit,
    masterKey,
  }
}

/** What asks issuers of identity tokens for their keys. */
export function openClient({ oidcAllowNetworks }: Config): GuardedClient {
  return new GuardedClient({
    allowed: oidcAllowNetworks,
    hint: 'ROOKERY_OIDC_ALLOW_NETWORKS allows networks',
  })
}

/** What tokens call this registry. */
export async function openIssuer(db: Database, { publicUrl }: Config): Promise<Issuer> {
  if (publicUrl !== undefined) return { url: publicUrl, service: new URL(publicUrl).host }
  // Replicas on any address then still believe each other's tokens.
  const id = await findInstallationId(db)
  return { url: `urn:uuid:${id}`, service: `rookery-${id}` }
}

/** The keys that sign, made on first start, and what they are encrypted with. Throws StartError. */
export async function openKeys(
  { db, dataFolder }: AuthorityState,
  config: Config,
): Promise<{ keys: KeyRing; masterKey: MasterKey }> {
  return forOperators(async () => {
    const inUse = (await listSigningKeys(db)).length > 0
    const masterKey = await openMasterKey(masterKeyFile(dataFolder, config), !inUse)
    const keys = new KeyRing(db, masterKey)
    await keys.open()
    return { keys, masterKey }
  })
}

/** The master key, made when it is missing. Throws StartError. */
export async function masterKeyOf(dataFolder: string, config: Config): Promise<MasterKey> {
  return forOperators(() => openMasterKey(masterKeyFile(dataFolder, config), true))
}

/** Where the master key lies. */
export function masterKeyFile(dataFolder: string, { masterKeyFile: given }: Config): string {
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
