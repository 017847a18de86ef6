import { addAuditEntries, recordChange } from '../../db/auth/audit.ts'
import type { Database, Transaction } from '../../db/database.ts'
import { type HostRow, lockHost } from '../../db/hosts/hosts.ts'
import {
  addPendingHost,
  approveHost,
  lockPendingHosts,
  removeExpiredPendingHost,
} from '../../db/hosts/pending-hosts.ts'
import { clientNetwork } from '../../networks/networks.ts'
import { conflict, RegistryError } from '../../oci/errors.ts'
import { appendEnrolled } from './host-events.ts'
import type { HostKey } from './host-key.ts'
import {
  checkHostGrant,
  type HostGrantRequest,
  type HostRequester,
  ownerOriginOf,
} from './host-rights.ts'
import { requireManaged } from './managed-hosts.ts'
import { assertBelowHostLimit, giveKey, requireNew } from './new-host.ts'

/** Hosts that may wait for an approval at once. */
export const PENDING_HOSTS_MAX = 100
/** Hosts of one address that may wait, so that a stranger does not use up the places of others. */
export const PENDING_HOSTS_PER_ADDRESS_MAX = 20
/** A host waits for its approval for this time. */
export const PENDING_SECONDS = 3600

/**
 * Adds a host that waits for an approval of its key. Throws CONFLICT when the name or the key is taken, and
 * TOOMANYREQUESTS when too many hosts wait.
 */
export async function requestApproval(
  tx: Transaction,
  name: string,
  key: HostKey,
  { address, requestId }: { readonly address: string; readonly requestId: string },
): Promise<void> {
  const network = clientNetwork(address)
  const waiting = await lockPendingHosts(tx, network)
  if (waiting.all >= PENDING_HOSTS_MAX || waiting.ofAddress >= PENDING_HOSTS_PER_ADDRESS_MAX) {
    throw new RegistryError('TOOMANYREQUESTS', undefined, {
      message: 'too many hosts wait for an approval: enrol with a code, or try again later',
      retryAfterSeconds: PENDING_SECONDS,
    })
  }
  await removeExpiredPendingHost(tx, name, key.thumbprint)
  const host = requireNew(await addPendingHost(tx, name, network, PENDING_SECONDS), name)
  await giveKey(tx, host, key)
  const entry = { action: 'request-host', decision: 'allowed', address, requestId } as const
  const nobody = { actor: null, origin: null, tokenId: null }
  const about = {
    repository: null,
    tags: null,
    digest: null,
    detail: `${name}, key ${key.thumbprint}`,
  }
  await addAuditEntries(tx, [{ ...entry, ...nobody, ...about }])
  await appendEnrolled(tx, host, null, key.thumbprint)
}

/** The approval of a host: the fingerprint that the host printed, and its grant. */
export type Approval = HostGrantRequest & { readonly fingerprint: string }

/**
 * Activates a host that waits. Throws NOT_FOUND, REQUEST_INVALID and DENIED for the grant, and CONFLICT for another
 * fingerprint and for a host that does not wait.
 */
export async function approve(
  db: Database,
  name: string,
  approval: Approval,
  requester: HostRequester,
): Promise<HostRow> {
  const { actor } = requester
  const grant = checkHostGrant(approval, requester)
  return db.transaction(async (tx) => {
    const detail = `${name}, key ${approval.fingerprint}: ${grant.repositories.join(', ')}`
    await recordChange(tx, actor, { action: 'approve-host', detail })
    const host = requireManaged(await lockHost(tx, name), name, requester)
    if (host.state !== 'pending') throw conflict(`the host ${name} is active already`)
    if (host.fingerprint !== approval.fingerprint) {
      throw conflict(
        `the key of ${name} has another fingerprint than ${approval.fingerprint}: compare it with what the host printed, and revoke the host when it is not yours`,
        { field: 'fingerprint' },
      )
    }
    const owner = { createdBy: actor.name, ownerOrigin: ownerOriginOf(actor) }
    const approved = await approveHost(tx, host.id, { ...grant, ...owner })
    if (approved === undefined) throw conflict(`the host ${name} waited too long: it enrols again`)
    await assertBelowHostLimit(tx)
    await appendEnrolled(tx, approved, actor.name, approved.fingerprint)
    return approved
  })
}
