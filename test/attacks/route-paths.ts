import { allRoutes, type RouteDeps } from '../../src/http/routes.ts'
import { digestOf } from '../support/digest.ts'

/** The table of all routes: a test that walks it covers a new route. */
export const ROUTES = allRoutes({ auth: {} } as RouteDeps)

/** The routes that ROOKERY_BUILDER_WEB adds. */
export const BUILDER_WEB_ROUTES = allRoutes({ auth: {}, builderWeb: {} } as RouteDeps).slice(
  ROUTES.length,
)

const BUILD = '00000000-0000-4000-8000-000000000001'
const UPLOAD = '00000000-0000-4000-8000-000000000000'

/** Values of the parameters of routes, by name. */
export type RouteValues = Readonly<Record<string, string>>

/** Returns a path of the route that names the repository, the values, and missing content for other parameters. */
export function pathOfRoute(pattern: string, repository: string, values: RouteValues = {}): string {
  return pattern
    .replace(/:(\w+)/g, (parameter, name) => values[name] ?? parameter)
    .replace('*repository', repository)
    .replace(':upload', UPLOAD)
    .replace(':build', BUILD)
    .replace(':deployment', BUILD)
    .replace(':ecosystem', 'opam')
    .replace(':format', 'spdx')
    .replace(':inputId', '0'.repeat(64))
    .replace(/:(?!digest)\w+/g, 'missing')
    .replace(':digest', digestOf('missing'))
}

/** Content that answers of routes are about. */
export type Samples = {
  readonly repository: string
  readonly tag: string
  /** Digests of a manifest and of its kernel. */
  readonly manifest: string
  readonly kernel: string
  readonly inputId: string
  /** A package of the image, of opam. */
  readonly package: string
  readonly webhook: string
  /** The id of an event that has a delivery to the webhook. */
  readonly event: string
  /** The id of a build of the image. */
  readonly build: string
  /** The id of a deployment of the image. */
  readonly deployment: string
  /** A host. Without it, paths name one that is missing. */
  readonly host?: string
}

/** Returns a path of the route that names the samples, so that the route has something to answer. */
export function answeredPath(pattern: string, samples: Samples): string {
  const digest = pattern.includes('/kernels/') ? samples.kernel : samples.manifest
  const named = pattern
    .replace('/webhooks/:name', `/webhooks/${samples.webhook}`)
    .replace('/:ecosystem/:name', `/opam/${samples.package}`)
    .replace(':event', samples.event)
    .replace(':build', samples.build)
    .replace(':deployment', samples.deployment)
    .replace(':host', samples.host ?? ':host')
    .replace(':inputId', samples.inputId)
    .replace(/:(?:reference|other|tag)(?=\/|$)/g, samples.tag)
    .replace(':pair', `${samples.tag}...${samples.tag}`)
    .replace(':format', 'slsa')
  return pathOfRoute(named, samples.repository).replace(digestOf('missing'), digest)
}

/** Returns the same with the query that the route needs. */
export function answeredUrl(pattern: string, samples: Samples): string {
  const query = pattern === '/api/v1/sources' ? '?from=https://github.com/mirage/mirage' : ''
  return `${answeredPath(pattern, samples)}${query}`
}
