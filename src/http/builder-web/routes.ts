import type { Blobs } from '../../registry/blobs.ts'
import type { Builds } from '../../registry/builds/builds.ts'
import type { Images } from '../../registry/images/images.ts'
import type { AskQuestion } from '../question-budget.ts'
import type { Route } from '../route.ts'
import { buildRoutes } from './builds.ts'
import { compareRoutes } from './compare.ts'
import type { BuilderWeb } from './jobs.ts'
import { listRoutes } from './lists.ts'
import { lookupRoutes } from './lookups.ts'
import { uploadRoutes } from './uploads.ts'

/** The objects that the routes call. */
export type BuilderWebRouteDeps = {
  readonly builderWeb: BuilderWeb
  readonly blobs: Blobs
  readonly builds: Builds
  readonly images: Images
  readonly ask: AskQuestion
}

/** The table of the routes that programs of builder-web use: `spec/builder-web.yaml`. */
export function builderWebRoutes({
  builderWeb,
  blobs,
  builds,
  images,
  ask,
}: BuilderWebRouteDeps): Route[] {
  return [
    ...uploadRoutes(builderWeb),
    // Before the routes of one build: `latest` is no id.
    ...lookupRoutes(builderWeb, ask),
    ...buildRoutes(builderWeb, blobs, builds),
    ...compareRoutes(builderWeb, images, ask),
    ...listRoutes(builderWeb, ask),
  ]
}
