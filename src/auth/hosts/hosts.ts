import { recordChange } from '../../db/auth/audit.ts'
import { addCredential } from '../../db/auth/credentials.ts'
import { addRevocation } from '../../db/auth/revocations.ts'
import type { Database, Queryable, Transaction } from '../../db/database.ts'
import { notifyDeployment, notifyHost } from '../../db/deployments/notifications.ts'
import {
  type ListedUnit,
  listUnitsOfHost,
  listUnitsOfHosts,
  removeUnit,
  skipTargetsOfUnit,
  type UnitOfHost,
} from '../../db/deployments/units.ts'
import { removeUnitsOfHost, revokeHost, skipTargetsOfHost } from '../../db/hosts/host-ends.ts'
import {
  addHost,
  changeHost,
  findHost,
  HOST_STATES,
  type HostFilter,
  type HostPlace,
  type HostRow,
  lockHost,
} from '../../db/hosts/hosts.ts'
import { removePendingHost } from '../../db/hosts/pending-hosts.ts'
import { badRequest, conflict } from '../../oci/errors.ts'
import { type Glob, matchesAnyGlob } from '../../oci/glob.ts'
import { REVOCATION_KEPT_SECONDS } from '../lifetimes.ts'
import { generateSecret, hashSecret } from '../secrets.ts'
import { type Approval, approve } from './approvals.ts'
import { grantVersionSubject, hostOrigin } from './host-access.ts'
import { appendEnrolled } from './host-events.ts'
import {
  assertHostName,
  assertLabels,
  checkHostGrant,
  type HostGrantRequest,
  type HostRequester,
  isHostName,
  ownerOriginOf,
} from './host-rights.ts'
import { type HostPage, listManagedHosts, requireManaged, unknownHost } from './managed-hosts.ts'
import { assertBelowHostLimit, requireNew } from './new-host.ts'

export {
  HOST_STATES,
  type HostFilter,
  type HostPlace,
  type HostRow,
  type ListedUnit,
  type UnitOfHost,
}

export type HostsOptions = {
  readonly db: Database
  /** Applies a revocation in this process at once. Other replicas read it within seconds. */
  readonly onRevoked: () => Promise<void>
  /** Called after a commit that may have events. */
  readonly onCommitted: () => void
}

/** A change of a host. Undefined fields stay as they are; null for the networks permits any. */
export type HostChange = {
  readonly repositories: readonly string[] | undefined
  readonly networks: readonly string[] | null | undefined
  readonly labels: Readonly<Record<string, string>> | undefined
}

/** The hosts of the registry. Every change is in the audit log. */
export class Hosts {
  readonly #options: HostsOptions

  constructor(options: HostsOptions) {
    this.#options = options
  }

  /** Lists hosts that the requester may manage, after a place. */
  list(
    db: Queryable,
    filter: HostFilter,
    after: HostPlace,
    limit: number,
    requester: HostRequester,
  ): Promise<HostPage> {
    return listManagedHosts(db, filter, after, limit, requester)
  }

  /** Lists some units of hosts: those that failed first. */
  unitsOf(db: Queryable, hosts: readonly HostRow[]): Promise<UnitOfHost[]> {
    return listUnitsOfHosts(
      db,
      hosts.map(({ id }) => id),
    )
  }

  /** Returns a host that the requester may manage, with its units. Throws NOT_FOUND. */
  async require(
    name: string,
    requester: HostRequester,
    db: Queryable = this.#options.db,
  ): Promise<{ host: HostRow; units: readonly ListedUnit[] }> {
    assertCanExist(name)
    const host = requireManaged(await findHost(db, name), name, requester)
    return { host, units: await listUnitsOfHost(db, host.id) }
  }

  /**
   * Creates a host that has a secret instead of a key, and returns the secret, which is stored as a hash only. Throws
   * REQUEST_INVALID, DENIED, and CONFLICT when the name is taken.
   */
  async createWithSecret(
    name: string,
    request: HostGrantRequest,
    requester: HostRequester,
  ): Promise<{ host: HostRow; secret: string }> {
    assertHostName(name)
    const grant = checkHostGrant(request, requester)
    const secret = generateSecret()
    const secretSha256 = hashSecret(secret)
    const { actor } = requester
    const host = await this.#options.db.transaction(async (tx) => {
      const detail = `${name}: ${grant.repositories.join(', ')}`
      await recordChange(tx, actor, { action: 'create-host', detail })
      await removePendingHost(tx, name)
      const credentialId = await addHostCredential(tx, name, secretSha256, actor.name)
      const row = { name, ...grant, createdBy: actor.name, ownerOrigin: ownerOriginOf(actor) }
      const added = requireNew(await addHost(tx, row, credentialId), name)
      await assertBelowHostLimit(tx)
      await appendEnrolled(tx, added, actor.name, null)
      return added
    })
    this.#options.onCommitted()
    return { host, secret }
  }

  /** Activates a host that waits for its approval. Throws what `approve` throws. */
  async approve(name: string, approval: Approval, requester: HostRequester): Promise<HostRow> {
    assertCanExist(name)
    const host = await approve(this.#options.db, name, approval, requester)
    this.#options.onCommitted()
    return host
  }

  /**
   * Changes a host. The requester may manage it before and after, and gives it no more than it has itself. With other
   * repositories or networks its tokens end, and it requests new ones. Units of other repositories are removed. Throws NOT_FOUND, REQUEST_INVALID, DENIED, and
   * CONFLICT for a host that waits for its approval.
   */
  async change(name: string, change: HostChange, requester: HostRequester): Promise<HostRow> {
    assertCanExist(name)
    const changed = await this.#options.db.transaction(async (tx) => {
      await recordChange(tx, requester.actor, { action: 'change-host', detail: name })
      const host = requireManaged(await lockHost(tx, name), name, requester)
      if (host.state !== 'active') throw conflict(`the host ${name} waits for its approval`)
      const row = await changeHost(tx, host.id, applyChange(host, change, requester))
      if (row === undefined) throw new Error(`host ${host.id} is locked, but missing`)
      if (row.grantVersion !== host.grantVersion) {
        await addRevocation(tx, grantVersionSubject(host), REVOCATION_KEPT_SECONDS)
        await removeOtherUnits(tx, row)
        await notifyHost(tx, host.id)
      }
      return row
    })
    this.#options.onCommitted()
    await this.#options.onRevoked()
    return changed
  }

  /**
   * Revokes a host with its keys, tokens and units, on every replica within seconds, or refuses one that waits for its
   * approval. Its name is free for another host. Throws NOT_FOUND.
   */
  async revoke(name: string, requester: HostRequester): Promise<void> {
    assertCanExist(name)
    await this.#options.db.transaction(async (tx) => {
      await recordChange(tx, requester.actor, { action: 'revoke-host', detail: name })
      const { id, state } = requireManaged(await findHost(tx, name), name, requester)
      if (state === 'pending') return removePendingHost(tx, name)
      // First: it waits for reports that were faster, and those that follow are refused.
      await addRevocation(tx, hostOrigin(id), REVOCATION_KEPT_SECONDS)
      if ((await lockHost(tx, name))?.id !== id) throw unknownHost(name)
      await removeUnitsOfHost(tx, id)
      for (const deployment of await skipTargetsOfHost(tx, id)) {
        await notifyDeployment(tx, deployment)
      }
      await revokeHost(tx, id)
      await notifyHost(tx, id)
    })
    this.#options.onCommitted()
    await this.#options.onRevoked()
  }
}

/** Throws NOT_FOUND for a text that cannot be a name: it may have a NUL, which Postgres does not accept. */
function assertCanExist(name: string): void {
  if (!isHostName(name)) throw unknownHost(name)
}

/** Removes units that follow a repository which their host may not pull any more: no deployment waits for them. */
async function removeOtherUnits(
  tx: Transaction,
  { id, repositories }: Pick<HostRow, 'id' | 'repositories'>,
): Promise<void> {
  for (const { name, repository } of await listUnitsOfHost(tx, id)) {
    if (matchesAnyGlob(repositories as Glob[], repository)) continue
    await removeUnit(tx, id, name)
    for (const deployment of await skipTargetsOfUnit(tx, id, name)) {
      await notifyDeployment(tx, deployment)
    }
  }
}

/** The name of the credential has a colon, so that no command and no login finds it by that. */
async function addHostCredential(
  tx: Transaction,
  name: string,
  secretSha256: Buffer,
  createdBy: string,
): Promise<number> {
  const nothing = { repositories: [], actions: [], tags: null, networks: null, expiresAt: null }
  const unique = `host:${name}:${secretSha256.toString('hex')}`
  const row = { name: unique, kind: 'host', ...nothing, createdBy } as const
  const added = await addCredential(tx, row, secretSha256)
  if (added === undefined) throw new Error('two random secrets are equal')
  return added.id
}

function applyChange(
  host: HostRow,
  { repositories, networks, labels }: HostChange,
  requester: HostRequester,
): Pick<HostRow, 'repositories' | 'networks' | 'labels'> {
  if (repositories === undefined && networks === undefined && labels === undefined) {
    throw badRequest('give repositories, networks or labels')
  }
  if (repositories === undefined && networks === undefined) {
    assertLabels(labels ?? {})
    return { ...host, labels: labels ?? host.labels }
  }
  const wanted = {
    repositories: repositories ?? host.repositories,
    networks: (networks === undefined ? host.networks : networks) ?? undefined,
    labels: labels ?? host.labels,
  }
  const checked = checkHostGrant(wanted, requester)
  // A change of the repositories leaves the networks as they are.
  return networks === undefined ? { ...checked, networks: host.networks } : checked
}
