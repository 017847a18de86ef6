import type { Hosts } from '../../auth/hosts/hosts.ts'
import type { DeploymentActions } from '../../deployments/actions.ts'
import type { Blobs } from '../../registry/blobs.ts'
import type { Builds } from '../../registry/builds/builds.ts'
import type { Images } from '../../registry/images/images.ts'
import type { PackageSearch } from '../../registry/images/package-search.ts'
import type { Pictures } from '../../registry/images/pictures.ts'
import type { Listings } from '../../registry/listings.ts'
import type { Overviews } from '../../registry/overviews.ts'
import type { TagHistory } from '../../registry/tag-history.ts'
import type { DeploymentRouteDeps } from '../api/visible-deployment.ts'
import type { PageCursors } from '../pages.ts'
import type { AskQuestion } from '../question-budget.ts'
import type { RouteContext } from '../route.ts'
import type { CredentialPageDeps } from './credentials.tsx'
import type { LoginPageDeps } from './login.tsx'
import type { WebhookPageDeps } from './webhooks.tsx'

/** The objects that pages call. */
export type PageDeps = LoginPageDeps &
  WebhookPageDeps &
  CredentialPageDeps & {
    readonly auth: { readonly hosts: Hosts }
    readonly blobs: Blobs
    readonly builds: Builds
    readonly images: Images
    readonly pictures: Pictures
    readonly packageSearch: PackageSearch
    readonly listings: Listings
    readonly overviews: Overviews
    readonly tagHistory: TagHistory
    readonly deployments: DeploymentRouteDeps & { readonly actions: DeploymentActions }
    readonly ask: AskQuestion
    readonly pageCursors: PageCursors
    /** The address of the registry, as the client reaches it. */
    readonly clientBaseUrl: (ctx: RouteContext) => string
  }
