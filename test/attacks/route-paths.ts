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

const MISSING: Readonly<Record<string, string>> = {
  upload: UPLOAD,
  build: BUILD,
  deployment: BUILD,
  ecosystem: 'opam',
  format: 'spdx',
  inputId: '0'.repeat(64),
  digest: digestOf('missing'),
}

/** Values of the parameters of routes, by name. */
export type RouteValues = Readonly<Record<string, string>>

/** Returns a path of the route that names the repository, the values, and missing content for other parameters. */
export function pathOfRoute(pattern: string, repository: string, values: RouteValues = {}): string {
  return pattern
    .replace(/:(\w+)/g, (_, name) => values[name] ?? MISSING[name] ?? 'missing')
    .replace('*repository', repository)
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
  const { tag, build, deployment, event, inputId } = samples
  return pathOfRoute(pattern, samples.repository, {
    ...{ build, deployment, event, inputId, tag, reference: tag, other: tag },
    pair: `${tag}...${tag}`,
    format: 'slsa',
    ...(samples.host === undefined ? {} : { host: samples.host }),
    digest: pattern.includes('/kernels/') ? samples.kernel : samples.manifest,
    ...(pattern.includes('/webhooks/:name') && { name: samples.webhook }),
    ...(pattern.includes('/:ecosystem/:name') && { name: samples.package }),
  })
}

/** Returns the same with the query that the route needs. */
export function answeredUrl(pattern: string, samples: Samples): string {
  const query = pattern === '/api/v1/sources' ? '?from=https://github.com/mirage/mirage' : ''
  return `${answeredPath(pattern, samples)}${query}`
}
