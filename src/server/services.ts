import type { MasterKey } from '../auth/master-key.ts'
import type { Config } from '../config/config.ts'
import { ProcessLock } from '../db/process-lock.ts'
import { DeploymentActions } from '../deployments/actions.ts'
import { DeploymentSignals } from '../deployments/signals.ts'
import { Deriver } from '../derivation/deriver.ts'
import type { AuthServices } from '../http/routes.ts'
import { buildAuth } from './auth.ts'
import type { CleanupStack } from './cleanup.ts'
import { connectionLimits } from './connection-limits.ts'
import { startDeployments } from './deployments.ts'
import { buildEventPipeline } from './events.ts'
import { startHostServices } from './hosts.ts'
import { startHttp } from './http.ts'
import type { Log } from './log.ts'
import { startUnwrapQueue } from './maintenance.ts'
import type { Metrics } from './metrics.ts'
import { registerPools } from './metrics-refresh.ts'
import { startPictures } from './pictures.ts'
import type { Readiness } from './readiness.ts'
import { buildRegistry, type RegistryOperations } from './registry.ts'
import { RegistryAddress } from './registry-address.ts'
import type { Stores } from './stores.ts'
import type { Peers } from './workers/peers.ts'

/** A process that answers requests, before it has begun to give events their position. */
export type Services = {
  /** The URL on which it listens. */
  readonly url: string
  readonly registry: RegistryOperations
  readonly auth: AuthServices & { readonly masterKey: MasterKey }
  /** Called after each commit that has events. */
  readonly onCommitted: () => void
  /** Starts the work on events. */
  start(): void
}

/** The parts of a process that its other work uses, too. */
type ProcessParts = {
  readonly peers: Peers
  readonly readiness: Readiness
  readonly metrics: Metrics
}

/** Builds all that answers requests, with the background work that belongs to it, and listens. Throws StartError. */
export async function startServices(
  stores: Stores,
  configuredSha256: Buffer | undefined,
  config: Config,
  { peers, readiness, metrics }: ProcessParts,
  log: Log,
  cleanup: CleanupStack,
): Promise<Services> {
  const { db } = stores
  const limits = await connectionLimits(config)
  const onCommitted = () => events.sequencer.poke()
  peers.onPost('committed', onCommitted)
  const auth = await buildAuth(stores, config, configuredSha256, peers, log, cleanup, onCommitted)
  const { issuer, keys, masterKey } = auth
  auth.authenticator.onRefused = (reason) => metrics.loginRefused(reason)
  registerPools(stores, metrics)
  peers.onAsk('metrics', () => metrics.collect())
  const address = new RegistryAddress(config)
  const processLock = new ProcessLock()
  const signals = new DeploymentSignals()
  const events = buildEventPipeline(
    { db, processLock, issuer, keys, masterKey, metrics, signals, registry: () => address.host },
    config,
    log,
    cleanup,
  )
  const deriver = new Deriver()
  cleanup.defer(() => deriver.close())
  metrics.registerDerivations(() => deriver.waiting)
  const pictures = startPictures(stores, log, cleanup)
  const registry = buildRegistry(stores, config, { deriver, pictures }, processLock, onCommitted)
  if (!config.readOnly) {
    startUnwrapQueue(stores, registry, onCommitted, log, cleanup)
    startDeployments({ db, signals }, config.eventDays, onCommitted, log, cleanup)
  }
  const hostDeps = { db, signals, hostsMax: limits.waiting }
  const hosts = startHostServices(hostDeps, config, onCommitted, log, cleanup)
  const parts = {
    stores,
    auth,
    registry,
    events,
    hosts,
    metrics,
    signals,
    actions: new DeploymentActions(db, onCommitted),
    address,
    limits,
  }
  const url = await startHttp({ ...parts, peers, readiness }, config, log, cleanup)
  address.listensAt(url)
  return { url, registry, auth, onCommitted, start: () => events.start() }
}
