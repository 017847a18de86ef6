import { allRoutes, type RouteDeps } from '../../src/http/routes.ts'
import { digestOf } from '../support/digest.ts'

/** The table of all routes: a test that walks it covers a new route. */
export const ROUTES = allRoutes({ auth: {} } as RouteDeps)

const UPLOAD = '00000000-0000-4000-8000-000000000000'

/** Values of the parameters of routes, by name. */
export type RouteValues = Readonly<Record<string, string>>

/** Returns a path of the route that names the repository, the values, and missing content for other parameters. */
export function pathOfRoute(pattern: string, repository: string, values: RouteValues = {}): string {
  return pattern
    .replace(/:(\w+)/g, (parameter, name) => values[name] ?? parameter)
    .replace('*repository', repository)
    .replace(':upload', UPLOAD)
    .replace(':ecosystem', 'opam')
    .replace(':format', 'spdx')
    .replace(':inputId', '0'.repeat(64))
    .replace(/:(?!digest)\w+/g, 'missing')
    .replace(':digest', digestOf('missing'))
}
