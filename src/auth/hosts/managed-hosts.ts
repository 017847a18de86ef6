import type { Queryable } from '../../db/database.ts'
import { type HostFilter, type HostPlace, type HostRow, listHosts } from '../../db/hosts/hosts.ts'
import { notFound, type RegistryError } from '../../oci/errors.ts'
import { type HostRequester, mayManageHost } from './host-rights.ts'

const LISTED_AT_ONCE = 500
/** Hosts that one page reads, however few of them the requester may see. */
const SCANNED_MAX = 5_000
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
  const hosts: HostRow[] = []
  let place = after
  // An administrator sees every host that is read.
  const atOnce = grants === null ? Math.min(limit + 1, LISTED_AT_ONCE) : LISTED_AT_ONCE
  for (let scanned = 0; scanned < SCANNED_MAX; scanned += atOnce) {
    const rows = await listHosts(db, filter, place, atOnce)
    for (const row of rows) {
      if (!mayManageHost(grants, row.repositories)) continue
      if (hosts.length === limit) return { hosts, next: hosts.at(-1) }
      hosts.push(row)
    }
    const last = rows.at(-1)
    if (rows.length < atOnce || last === undefined) return { hosts, next: undefined }
    place = last
  }
  return { hosts, next: place }
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
