import { badRequest } from '../oci/errors.ts'
import { isUuidInAnyCase } from '../oci/uuid.ts'
import type { RouteContext } from './route.ts'

/**
 * Reads the id that the client chose for a build, from `Rookery-Build`: repeated with the same id, a push is no second
 * build. Undefined without the header. Throws REQUEST_INVALID.
 */
export function parseBuildId({ headers }: RouteContext): string | undefined {
  const id = headers['rookery-build']
  if (id === undefined) return undefined
  if (typeof id !== 'string' || !isUuidInAnyCase(id)) {
    throw badRequest('Rookery-Build must be one UUID, such as 0268b383-13ae-4a1f-b33c-1bcd327c1d41')
  }
  return id.toLowerCase()
}
