import type { RegistryIssuer } from '../auth/access-tokens.ts'
import type { AuditLog } from '../auth/audit.ts'
import type { Authenticator } from '../auth/authenticator.ts'
import type { Credentials } from '../auth/credentials.ts'
import type { HostEnrolments } from '../auth/hosts/enrolments.ts'
import type { HostKeys } from '../auth/hosts/host-keys.ts'
import type { Hosts } from '../auth/hosts/hosts.ts'
import type { TokenRevocations } from '../auth/revocations.ts'
import type { Sessions } from '../auth/sessions.ts'
import type { KeyRing } from '../auth/signing-keys.ts'
import type { TokenIssuer } from '../auth/token-issuer.ts'
import type { TrustPolicies } from '../auth/trust/policies.ts'
import type { UploadUrls } from '../auth/upload-urls.ts'
import type { DeploymentActions } from '../deployments/actions.ts'
import type { DesiredUnits } from '../deployments/desired.ts'
import type { Presence } from '../deployments/presence.ts'
import type { Reports } from '../deployments/reports.ts'
import type { Rollouts } from '../deployments/rollout-management.ts'
import type { Blobs } from '../registry/blobs.ts'
import type { Builds } from '../registry/builds/builds.ts'
import type { ManifestReads } from '../registry/builds/manifest-reads.ts'
import type { ImageBuilder } from '../registry/images/builder.ts'
import type { Images } from '../registry/images/images.ts'
import type { PackageSearch } from '../registry/images/package-search.ts'
import type { Pictures } from '../registry/images/pictures.ts'
import type { SourceSearch } from '../registry/images/source-search.ts'
import type { Listings } from '../registry/listings.ts'
import type { Manifests } from '../registry/manifests.ts'
import type { Overviews } from '../registry/overviews.ts'
import type { Repositories } from '../registry/repositories.ts'
import type { TagHistory } from '../registry/tag-history.ts'
import type { Uploads } from '../registry/uploads/uploads.ts'
import type { WebhookDeliveries } from '../webhooks/management/deliveries.ts'
import type { Webhooks } from '../webhooks/management/webhooks.ts'
import { agentRoutes } from './agent.ts'
import { auditRoutes } from './api/audit.ts'
import { buildRoutes } from './api/builds.ts'
import { comparisonRoutes } from './api/comparisons.ts'
import { credentialRoutes } from './api/credentials.ts'
import { dependencyRoutes } from './api/dependencies.ts'
import { deploymentActionRoutes } from './api/deployment-actions.ts'
import { deploymentRoutes } from './api/deployments.ts'
import { desiredRoutes } from './api/desired.ts'
import { documentRoutes } from './api/documents.ts'
import { enrolmentRoutes } from './api/enrolments.ts'
import { type EventRouteDeps, eventRoutes } from './api/events.ts'
import { hostKeyRoutes, hostRoutes } from './api/hosts.ts'
import { imageBuildRoutes } from './api/image-builds.ts'
import { imageRoutes } from './api/images.ts'
import { packageRoutes } from './api/packages.ts'
import { policyRoutes } from './api/policies.ts'
import { repositoryRoutes } from './api/repositories.ts'
import { rolloutRoutes } from './api/rollouts.ts'
import { runRoutes } from './api/runs.ts'
import { sessionRoutes } from './api/sessions.ts'
import { sizeRoutes } from './api/sizes.ts'
import { sourceRoutes } from './api/sources.ts'
import { tagRoutes } from './api/tags.ts'
import { textRoutes } from './api/texts.ts'
import { tokenRevocationRoutes } from './api/tokens.ts'
import { unitRoutes } from './api/units.ts'
import { uploadUrlCreationRoutes } from './api/upload-urls.ts'
import type { DeploymentRouteDeps } from './api/visible-deployment.ts'
import { webhookDeliveryRoutes, webhookRoutes } from './api/webhooks.ts'
import type { BuilderWeb } from './builder-web/jobs.ts'
import { builderWebRoutes } from './builder-web/routes.ts'
import { type Operations, operationRoutes } from './operations.ts'
import { isBrowser } from './other-sites.ts'
import type { PageCursors } from './pages.ts'
import type { AskQuestion } from './question-budget.ts'
import type { Route, RouteContext } from './route.ts'
import { tokenRoutes } from './token.ts'
import { uploadUrlRoutes } from './upload-urls.ts'
import { baseRoutes } from './v2/base.ts'
import { blobRoutes } from './v2/blobs.ts'
import { listingRoutes } from './v2/listings.ts'
import { manifestRoutes } from './v2/manifests.ts'
import { uploadRoutes } from './v2/uploads.ts'
import { pageRoutes } from './web/routes.ts'
import { wellKnownRoutes } from './well-known.ts'

/** The objects that the routes call. */
export type RouteDeps = {
  uploads: Uploads
  blobs: Blobs
  manifests: Manifests
  manifestReads: ManifestReads
  builds: Builds
  /** Undefined: the paths of builder-web are off. */
  builderWeb?: BuilderWeb | undefined
  listings: Listings
  imageBuilder: ImageBuilder
  images: Images
  pictures: Pictures
  packageSearch: PackageSearch
  sourceSearch: SourceSearch
  tagHistory: TagHistory
  operations: Operations
  repositories: Repositories
  overviews: Overviews
  webhooks: Webhooks
  webhookDeliveries: WebhookDeliveries
  feed: EventRouteDeps
  deployments: DeploymentRouteDeps & { readonly actions: DeploymentActions }
  rollouts: Rollouts
  auth: AuthServices
  desired: DesiredUnits
  reports: Reports
  presence: Presence
  /** Runs work of a request that does not count among those of its address meanwhile. */
  beyondAddressLimit<T>(ctx: RouteContext, work: () => Promise<T>): Promise<T>
  publicBaseUrl(ctx: RouteContext): string
  /** The same, for a secret that only this client gets: `https` also behind a proxy that is not trusted. */
  clientBaseUrl(ctx: RouteContext): string
  ask: AskQuestion
  pageCursors: PageCursors
  /** The version of Rookery. */
  version: string
}

/** Authentication, authorization and their administration. */
export type AuthServices = {
  issuer: RegistryIssuer
  keys: KeyRing
  authenticator: Authenticator
  sessions: Sessions
  tokenIssuer: TokenIssuer
  credentials: Credentials
  policies: TrustPolicies
  revokedTokens: TokenRevocations
  uploadUrls: UploadUrls
  hosts: Hosts
  hostKeys: HostKeys
  hostEnrolments: HostEnrolments
  audit: AuditLog
}

/** Returns the table of all routes. */
export function allRoutes(deps: RouteDeps): Route[] {
  const { auth, builderWeb } = deps
  const pages = pageRoutes(deps)
  const others = builderWeb === undefined ? [] : builderWebRoutes({ ...deps, builderWeb })
  return [
    ...baseRoutes(),
    ...uploadRoutes(deps.uploads, deps.blobs),
    ...blobRoutes(deps.blobs),
    ...manifestRoutes(deps.manifests, deps.manifestReads),
    ...listingRoutes(deps.listings, deps.ask, deps.pageCursors),
    ...operationRoutes(deps.operations),
    ...tokenRoutes(auth.tokenIssuer, auth.authenticator, auth.audit, deps.clientBaseUrl),
    ...agentRoutes(),
    ...wellKnownRoutes(auth.keys, auth.issuer, deps.publicBaseUrl),
    ...credentialRoutes(auth.credentials, deps.ask),
    ...sessionRoutes(auth.sessions, deps.ask),
    ...policyRoutes(auth.policies, deps.ask),
    ...enrolmentRoutes(auth.hostEnrolments, deps.clientBaseUrl),
    ...hostRoutes(auth.hosts, deps.ask),
    ...hostKeyRoutes(auth.hostKeys),
    ...tokenRevocationRoutes(auth.revokedTokens),
    ...repositoryRoutes(deps.repositories),
    ...uploadUrlCreationRoutes(auth.uploadUrls, deps.clientBaseUrl),
    ...uploadUrlRoutes(auth.uploadUrls, deps.imageBuilder),
    ...imageBuildRoutes(deps.imageBuilder),
    ...imageRoutes(deps.images, deps.blobs, deps.builds, deps.ask, deps.pageCursors),
    ...comparisonRoutes(deps.images, deps.builds, deps.ask),
    ...buildRoutes(deps.builds, deps.imageBuilder, deps.ask, deps.pageCursors),
    ...textRoutes(deps.builds, deps.images, deps.blobs),
    ...documentRoutes(deps.images, deps.ask, deps.publicBaseUrl, deps.version),
    ...dependencyRoutes(deps.images, deps.ask),
    ...sizeRoutes(deps.images, deps.pictures, deps.ask),
    ...packageRoutes(deps.packageSearch, deps.ask, deps.pageCursors),
    ...sourceRoutes(deps.sourceSearch, deps.ask, deps.pageCursors),
    ...tagRoutes(deps.tagHistory, deps.ask, deps.pageCursors),
    ...webhookRoutes(deps.webhooks, deps.ask),
    ...webhookDeliveryRoutes(deps.webhookDeliveries, deps.ask, deps.pageCursors),
    ...eventRoutes(deps.feed, deps.ask),
    ...deploymentRoutes(deps.deployments, deps.ask),
    ...deploymentActionRoutes(deps.deployments),
    ...desiredRoutes({
      ...deps,
      onHostRequest: (hostId) => deps.presence.seen(hostId),
    }),
    ...unitRoutes(deps.reports, deps.publicBaseUrl),
    ...rolloutRoutes(deps.rollouts, deps.ask),
    ...runRoutes(deps.ask, deps.pageCursors),
    ...auditRoutes(auth.audit, deps.ask),
    ...pages.map((page) => sharedWith(others, page)),
    ...others.filter((other) => pages.every((page) => !isSame(other, page))),
  ]
}

const isSame = (one: Route, other: Route) => one.method === other.method && one.path === other.path

/** A path of builder-web that is also a page: a browser gets the page, and a program what it got from builder-web. */
function sharedWith(others: readonly Route[], page: Route): Route {
  const other = others.find((one) => isSame(one, page))
  if (other === undefined) return page
  return {
    ...page,
    handle(ctx) {
      ctx.vary('Accept')
      return isBrowser(ctx.headers) ? page.handle(ctx) : other.handle(ctx)
    },
  }
}
