import type { Caller } from '../../auth/access.ts'
import { invalidQuery, unauthorized } from '../../oci/errors.ts'
import type { ImageFilter } from '../../registry/images/images.ts'
import type { QueryParameters } from '../query.ts'
import { queryAll, queryOnce, type RouteContext } from '../route.ts'
import { SELECTOR, selectorOf } from './kernel-query.ts'

/** The parameters that filter a list of images. */
export const IMAGE_FILTER = {
  ...SELECTOR,
  device: 'many',
  'device-count': 'once',
  tagged: 'once',
  builder: 'once',
} as const satisfies QueryParameters

/** As many as a kernel has at most. */
const DEVICES_MAX = 63

/** Parses the filter of a list of images, whose builder the caller may see. Throws QUERY_INVALID. */
export function imageFilterOf(ctx: RouteContext, builder: string | undefined): ImageFilter {
  const devices = queryAll(ctx, 'device').filter((device) => device !== '')
  if (devices.length > DEVICES_MAX) {
    throw invalidQuery(`device may be given at most ${DEVICES_MAX} times`, { parameter: 'device' })
  }
  const count = queryOnce(ctx, 'device-count') || undefined
  if (count !== undefined && (!/^\d{1,2}$/.test(count) || Number(count) > DEVICES_MAX)) {
    throw invalidQuery(`device-count must be a number from 0 to ${DEVICES_MAX}`, {
      parameter: 'devices',
    })
  }
  const tagged = queryOnce(ctx, 'tagged') || undefined
  if (tagged !== undefined && tagged !== 'true' && tagged !== 'false') {
    throw invalidQuery('tagged must be true or false', { parameter: 'tagged' })
  }
  return {
    ...selectorOf(ctx),
    devices,
    deviceCount: count === undefined ? undefined : Number(count),
    tagged: tagged === undefined ? undefined : tagged === 'true',
    builder,
  }
}

/** Throws UNAUTHORIZED for a filter by builder of an anonymous caller, who sees no builders. */
export function assertSeesBuilders(caller: Caller, builder: string | undefined): void {
  if (builder === undefined || caller.kind !== 'anonymous') return
  throw unauthorized('builder= needs a login: only members of a repository see who pushed')
}
