import type { Transaction } from '../../db/database.ts'
import { addHostKey } from '../../db/hosts/host-keys.ts'
import { countActiveHosts, type HostRow } from '../../db/hosts/hosts.ts'
import { conflict, type RegistryError } from '../../oci/errors.ts'
import type { HostKey } from './host-key.ts'

/** Hosts of a registry that may be active at once. */
export const HOSTS_MAX = 10_000

/** Gives a new host its key. Throws CONFLICT when the key is taken, or the registry has too many hosts. */
export async function giveKey(
  tx: Transaction,
  { id }: HostRow,
  { thumbprint, jwk }: HostKey,
): Promise<void> {
  if (!(await addHostKey(tx, id, thumbprint, jwk))) {
    throw conflict('another host has this key: make another key')
  }
  await assertBelowHostLimit(tx)
}

/** Returns a host that was added. Throws CONFLICT when the name was taken. */
export function requireNew(host: HostRow | undefined, name: string): HostRow {
  if (host !== undefined) return host
  throw nameTaken(name)
}

/** The error for the name of an active host. */
export function nameTaken(name: string): RegistryError {
  return conflict(
    `there is a host ${name} already, which an enrolment never replaces: revoke it first, or use another name`,
  )
}

/** Throws CONFLICT when the registry has more hosts than it may have. */
export async function assertBelowHostLimit(tx: Transaction): Promise<void> {
  if ((await countActiveHosts(tx)) <= HOSTS_MAX) return
  throw conflict(`a registry has at most ${HOSTS_MAX} hosts: revoke one first`)
}
