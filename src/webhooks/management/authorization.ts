import type { Action, Grant } from '../../auth/access.ts'
import type { WebhookSettings } from '../../db/webhooks/webhooks.ts'
import { denied } from '../../oci/errors.ts'
import { coversGlob, type Glob } from '../../oci/glob.ts'
import type { Requester } from './types.ts'

/** Webhooks that one credential or trust policy may own; administrators' are bounded by all there are. */
export const WEBHOOKS_PER_OWNER_MAX = 100
/** Webhooks of a registry: each event is compared with all of them. */
export const WEBHOOKS_MAX = 10_000

type Bounds = Pick<WebhookSettings, 'repositories' | 'types'>

/**
 * True when this manager may see, change, try and remove such a webhook: an administrator, or whoever
 * may `admin` everything that it names. Those that tell of the registry itself are administrators'.
 */
export function canManage({ grants }: Requester, { repositories, types }: Bounds): boolean {
  if (grants === null) return true
  if (types.some((type) => !type.startsWith('image.'))) return false
  return repositories.every((glob) => isCovered(grants, 'admin', glob))
}

/**
 * Throws DENIED unless the manager may have such a webhook: it needs `admin`, and also `pull`, because
 * without that nothing about a private repository would ever be sent.
 */
export function assertCanWrite({ grants }: Requester, { repositories, types }: Bounds): void {
  if (grants === null) return
  const type = types.find((one) => !one.startsWith('image.'))
  if (type !== undefined)
    throw denied(`only administrators may be told ${type}`, { field: 'types', value: type })
  for (const action of ['admin', 'pull'] as const) {
    const glob = repositories.find((one) => !isCovered(grants, action, one))
    if (glob === undefined) continue
    throw denied(
      `this credential may not ${action} all of ${glob}: a webhook needs admin and pull for what it names`,
      {
        field: 'repositories',
        value: glob,
      },
    )
  }
}

function isCovered(grants: readonly Grant[], action: Action, glob: Glob): boolean {
  return grants.some(
    ({ actions, repositories }) =>
      actions.includes(action) && repositories.some((one) => coversGlob(one, glob)),
  )
}
