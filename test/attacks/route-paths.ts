import { allRoutes, type RouteDeps } from '../../src/http/routes.ts'
import { digestOf } from '../support/digest.ts'

/** The table of all routes: a test that walks it covers a new route. */
export const ROUTES = allRoutes({ auth: {} } as RouteDeps)

const UPLOAD = '00000000-0000-4000-8000-000000000000'

/** Returns a path of the route that names the repository and missing content. */
export function pathOfRoute(pattern: string, repository: string): string {
  return pattern
    .replace('*repository', repository)
    .replace(':upload', UPLOAD)
    .replace(':digest', digestOf('missing'))
    .replace(':ecosystem', 'opam')
    .replace(':format', 'spdx')
    .replace(':inputId', '0'.repeat(64))
    .replace(/:\w+/g, 'missing')
}
