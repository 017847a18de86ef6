import type { Blobs } from '../registry/blobs.ts'
import type { Listings } from '../registry/listings.ts'
import type { Manifests } from '../registry/manifests.ts'
import type { Uploads } from '../registry/uploads.ts'
import { type Operations, operationRoutes } from './operations.ts'
import type { Route } from './route.ts'
import { baseRoutes } from './v2/base.ts'
import { blobRoutes } from './v2/blobs.ts'
import { listingRoutes } from './v2/listings.ts'
import { manifestRoutes } from './v2/manifests.ts'
import { uploadRoutes } from './v2/uploads.ts'

/** What the routes call. */
export type RegistryParts = {
  uploads: Uploads
  blobs: Blobs
  manifests: Manifests
  listings: Listings
  operations: Operations
}

/** Every row there is. */
export function allRoutes(parts: RegistryParts): Route[] {
  return [
    ...baseRoutes(),
    ...uploadRoutes(parts.uploads, parts.blobs),
    ...blobRoutes(parts.blobs),
    ...manifestRoutes(parts.manifests),
    ...listingRoutes(parts.listings),
    ...operationRoutes(parts.operations),
  ]
}
