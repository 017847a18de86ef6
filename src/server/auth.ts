import { AccessTokens } from '../auth/access-tokens.ts'
import { AuditLog } from '../auth/audit.ts'
import { Authenticator } from '../auth/authenticator.ts'
import { Credentials } from '../auth/credentials.ts'
import { HostEnrolments } from '../auth/hosts/enrolments.ts'
import { HostKeys } from '../auth/hosts/host-keys.ts'
import { Hosts } from '../auth/hosts/hosts.ts'
import { LoginThrottle } from '../auth/login-throttle.ts'
import type { MasterKey } from '../auth/master-key.ts'
import { startAuthRefresh } from '../auth/refresh-loop.ts'
import { RevocationList, TokenRevocations } from '../auth/revocations.ts'
import { Sessions } from '../auth/sessions.ts'
import { TokenIssuer } from '../auth/token-issuer.ts'
import { TrustPolicies } from '../auth/trust/policies.ts'
import { UploadUrls } from '../auth/upload-urls.ts'
import type { Config } from '../config/config.ts'
import type { AuthServices } from '../http/routes.ts'
import { GuardedClient } from '../outgoing/client.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Log } from './log.ts'
import { findIssuer, type KeyStores, openSigningKeys } from './signing-keys.ts'
import type { Peers } from './workers/peers.ts'

/**
 * Opens the keys, and builds authentication, token issuing and their administration. `onCommitted` is called after each
 * commit that has events. Throws StartError for unusable keys.
 */
export async function buildAuth(
  { db, dataFolder }: KeyStores,
  config: Config,
  adminSha256: Buffer | undefined,
  peers: Peers,
  log: Log,
  cleanup: CleanupStack,
  onCommitted: () => void,
): Promise<AuthServices & { readonly masterKey: MasterKey }> {
  const { keys, masterKey } = await openSigningKeys({ db, dataFolder }, config)
  const issuer = await findIssuer(db, config)
  const tokens = new AccessTokens(keys, issuer)
  const revocations = new RevocationList(db)
  await revocations.refresh()
  const audit = new AuditLog(db, (error) => log.error({ err: error }, 'audit entries were lost'))
  const loginThrottle = new LoginThrottle()
  loginThrottle.onFailure = (failure) => peers.post('login-failure', failure)
  peers.onPost('login-failure', (failure) => loginThrottle.countFailure(failure))
  const authenticator = new Authenticator({
    db,
    tokens,
    revocations,
    loginThrottle,
    adminPasswordSha256: adminSha256,
  })
  const refresh = startAuthRefresh({
    db,
    keys,
    revocations,
    auditDays: config.auditDays,
    onError: (error) =>
      log.error({ err: error }, 'refreshing keys and revocations failed, retrying'),
  })
  cleanup.defer(async () => {
    await refresh.stop()
    await audit.flush()
  })
  const client = createIssuerClient(config)
  cleanup.defer(() => client.close())
  // The revocation is stored; when this read fails, the refresh loop reads it again.
  const refreshNow = () => revocations.refresh().catch(() => {})
  const onRevoked = async () => void (await Promise.all([refreshNow(), peers.ask('revocations')]))
  peers.onAsk('revocations', async () => {
    await refreshNow()
    return null
  })
  const sessions = new Sessions({ db, authenticator, adminPasswordSha256: adminSha256, onRevoked })
  const policies = new TrustPolicies({ db, client, onRevoked })
  const hostKeys = new HostKeys({ db, issuer: issuer.url })
  const hosts = new Hosts({ db, onRevoked, onCommitted })
  const hostEnrolments = new HostEnrolments({
    ...{ db, authenticator, audit, onCommitted },
    issuer: issuer.url,
    acceptsRequests: config.hostEnrolment === 'approve',
  })
  const tokenIssuer = new TokenIssuer({
    db,
    tokens,
    authenticator,
    audit,
    tokenSeconds: config.tokenSeconds,
    exchange: (identityToken) => policies.exchange(identityToken),
    acceptAssertion: (assertion) => hostKeys.accept(assertion),
  })
  const credentials = new Credentials(db, onRevoked)
  const revokedTokens = new TokenRevocations(db, onRevoked)
  const uploadUrls = new UploadUrls({ db, authenticator, audit })
  return {
    issuer,
    keys,
    authenticator,
    sessions,
    tokenIssuer,
    credentials,
    policies,
    revokedTokens,
    uploadUrls,
    hosts,
    hostKeys,
    hostEnrolments,
    audit,
    masterKey,
  }
}

/** Creates the HTTP client that reads the keys of identity token issuers. */
export function createIssuerClient({ oidcAllowNetworks }: Config): GuardedClient {
  return new GuardedClient({
    allowed: oidcAllowNetworks,
    hint: 'ROOKERY_OIDC_ALLOW_NETWORKS allows networks',
  })
}
