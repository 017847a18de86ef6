import type { AuditLog } from '../auth/audit.ts'
import type { Authenticator } from '../auth/authenticator.ts'
import type { Credentials } from '../auth/credentials.ts'
import type { Drops } from '../auth/drops.ts'
import type { TokenIssuer } from '../auth/issuing.ts'
import type { KeyRing } from '../auth/keys.ts'
import type { RevokedTokens } from '../auth/revocations.ts'
import type { Issuer } from '../auth/tokens.ts'
import type { TrustPolicies } from '../auth/trust/policies.ts'
import type { Blobs } from '../registry/blobs.ts'
import type { Listings } from '../registry/listings.ts'
import type { Manifests } from '../registry/manifests.ts'
import type { Repositories } from '../registry/repositories.ts'
import type { Uploads } from '../registry/uploads.ts'
import { auditRoutes } from './api/audit.ts'
import { credentialRoutes } from './api/credentials.ts'
import { dropCreationRoutes } from './api/drops.ts'
import { policyRoutes } from './api/policies.ts'
import { repositoryRoutes } from './api/repositories.ts'
import { tokenRevocationRoutes } from './api/tokens.ts'
import { dropRoutes } from './drop.ts'
import { type Operations, operationRoutes } from './operations.ts'
import type { Route, RouteContext } from './route.ts'
import { tokenRoutes } from './token.ts'
import { baseRoutes } from './v2/base.ts'
import { blobRoutes } from './v2/blobs.ts'
import { listingRoutes } from './v2/listings.ts'
import { manifestRoutes } from './v2/manifests.ts'
import { uploadRoutes } from './v2/uploads.ts'
import { wellKnownRoutes } from './well-known.ts'

/** What the routes call. */
export type RegistryParts = {
  uploads: Uploads
  blobs: Blobs
  manifests: Manifests
  listings: Listings
  operations: Operations
  repositories: Repositories
  authority: AuthorityParts
  reachedAt(ctx: RouteContext): string
}

/** What decides who may do what, and what can be changed about that. */
export type AuthorityParts = {
  issuer: Issuer
  keys: KeyRing
  authenticator: Authenticator
  tokenIssuer: TokenIssuer
  credentials: Credentials
  policies: TrustPolicies
  revokedTokens: RevokedTokens
  drops: Drops
  audit: AuditLog
}

/** Every row there is. */
export function allRoutes(parts: RegistryParts): Route[] {
  const { authority } = parts
  return [
    ...baseRoutes(),
    ...uploadRoutes(parts.uploads, parts.blobs),
    ...blobRoutes(parts.blobs),
    ...manifestRoutes(parts.manifests),
    ...listingRoutes(parts.listings),
    ...operationRoutes(parts.operations),
    ...tokenRoutes(authority.tokenIssuer, authority.authenticator, authority.audit),
    ...wellKnownRoutes(authority.keys, authority.issuer, parts.reachedAt),
    ...credentialRoutes(authority.credentials),
    ...policyRoutes(authority.policies),
    ...tokenRevocationRoutes(authority.revokedTokens),
    ...repositoryRoutes(parts.repositories),
    ...dropCreationRoutes(authority.drops, parts.reachedAt),
    ...dropRoutes(authority.drops, parts.uploads, parts.manifests),
    ...auditRoutes(authority.audit),
  ]
}
