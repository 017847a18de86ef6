import { AuditLog } from './auth/audit.ts'
import { Authenticator } from './auth/authenticator.ts'
import { Brakes } from './auth/brakes.ts'
import { Credentials } from './auth/credentials.ts'
import { Drops } from './auth/drops.ts'
import { TokenIssuer } from './auth/issuing.ts'
import type { MasterKey } from './auth/master-key.ts'
import { RevocationList, RevokedTokens } from './auth/revocations.ts'
import { Tokens } from './auth/tokens.ts'
import { TrustPolicies } from './auth/trust/policies.ts'
import { startUpkeep } from './auth/upkeep.ts'
import type { Config } from './config.ts'
import type { AuthorityParts } from './http/routes.ts'
import { type KeyState, openIssuer, openKeys } from './keys.ts'
import type { Starting } from './listening.ts'
import type { Log } from './log.ts'
import { GuardedClient } from './outgoing/client.ts'

/**
 * Opens the keys and builds what decides about requests; `starting` learns how to stop it. Throws
 * StartError for keys that cannot be used.
 */
export async function openAuthority(
  { db, dataFolder }: KeyState,
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
