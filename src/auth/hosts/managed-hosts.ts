import type { Queryable } from '../../db/database.ts'
import { type HostFilter, type HostPlace, type HostRow, listHosts } from '../../db/hosts/hosts.ts'
import { isExact } from '../../db/name-patterns.ts'
import { notFound, type RegistryError } from '../../oci/errors.ts'
import { type HostRequester, managedRepositories, mayManageHost } from './host-rights.ts'

/** Hosts that one page reads for patterns with several stars, which Postgres does not compare exactly. */
const SCANNED_MAX = 1_000
const NAME_SHOWN_MAX = 64

export type HostPage = {
  readonly hosts: readonly HostRow[]
  /** The place after which the next page begins; undefined at the end. A page may have fewer hosts than its limit. */
  readonly next: HostPlace | undefined
}

/** Lists hosts that the requester may manage, after a place, in the order of names. */
export async function listManagedHosts(
  db: Queryable,
  filter: HostFilter,
  after: HostPlace,
  limit: number,
  { grants }: Pick<HostRequester, 'grants'>,
): Promise<HostPage> {
  const managed = managedRepositories(grants)
  if (managed?.length === 0) return { hosts: [], next: undefined }
  const scanned = managed === undefined || managed.every(isExact) ? limit + 1 : SCANNED_MAX
  const rows = await listHosts(db, filter, managed, after, scanned)
  const seen = rows.filter(({ repositories }) => mayManageHost(grants, repositories))
  const hosts = seen.slice(0, limit)
  if (seen.length > limit) return { hosts, next: hosts.at(-1) }
  return { hosts, next: rows.length < scanned ? undefined : rows.at(-1) }
}

/** Returns the host if the requester may manage it. Throws NOT_FOUND. */
export function requireManaged(
  host: HostRow | undefined,
  name: string,
  { grants }: Pick<HostRequester, 'grants'>,
): HostRow {
  if (host !== undefined && mayManageHost(grants, host.repositories)) return host
  throw unknownHost(name)
}

/** The error for a host that does not exist, or that the caller may not see. */
export function unknownHost(name: string): RegistryError {
  return notFound(`there is no host ${name.slice(0, NAME_SHOWN_MAX)}`)
}
