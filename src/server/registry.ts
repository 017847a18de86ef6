import type { Config } from '../config/config.ts'
import type { ProcessLock } from '../db/process-lock.ts'
import type { Deriver } from '../derivation/deriver.ts'
import type { BuilderWeb } from '../http/builder-web/jobs.ts'
import { Blobs } from '../registry/blobs.ts'
import { Builds } from '../registry/builds/builds.ts'
import { ExecUploads } from '../registry/builds/exec-uploads.ts'
import { JobBuilds } from '../registry/builds/job-builds.ts'
import { Jobs } from '../registry/builds/jobs.ts'
import { ManifestReads } from '../registry/builds/manifest-reads.ts'
import { ImageAnalyzer } from '../registry/images/analyzer.ts'
import { ImageBuilder } from '../registry/images/builder.ts'
import { Images } from '../registry/images/images.ts'
import { PackageSearch } from '../registry/images/package-search.ts'
import type { Pictures } from '../registry/images/pictures.ts'
import { SourceSearch } from '../registry/images/source-search.ts'
import { Listings } from '../registry/listings.ts'
import { Manifests } from '../registry/manifests.ts'
import { Overviews } from '../registry/overviews.ts'
import { Repositories } from '../registry/repositories.ts'
import { TagHistory } from '../registry/tag-history.ts'
import { KernelBlobs } from '../registry/unwrap/kernel-blobs.ts'
import { Unwrapper } from '../registry/unwrap/unwrapper.ts'
import { Uploads } from '../registry/uploads/uploads.ts'
import type { Stores } from './stores.ts'

/** The operations of the registry. */
export type RegistryOperations = {
  readonly analyzer: ImageAnalyzer
  readonly unwrapper: Unwrapper
  readonly uploads: Uploads
  readonly blobs: Blobs
  readonly manifests: Manifests
  readonly manifestReads: ManifestReads
  readonly builds: Builds
  /** Undefined: the paths of builder-web are off. */
  readonly builderWeb: BuilderWeb | undefined
  readonly imageBuilder: ImageBuilder
  readonly images: Images
  readonly pictures: Pictures
  readonly packageSearch: PackageSearch
  readonly sourceSearch: SourceSearch
  readonly tagHistory: TagHistory
  readonly listings: Listings
  readonly repositories: Repositories
  readonly overviews: Overviews
}

/** Builds the operations. `onCommitted` is called after each commit that has events. */
export function buildRegistry(
  { db, store }: Stores,
  config: Config,
  { deriver, pictures }: Pick<RegistryOperations, 'pictures'> & { readonly deriver: Deriver },
  processLock: ProcessLock,
  onCommitted: () => void,
): RegistryOperations {
  const visibility = config.defaultVisibility
  const analyzer = new ImageAnalyzer(db, store, deriver)
  const manifestReads = new ManifestReads(db)
  const uploads = new Uploads(db, store, {
    lifetimeSeconds: config.uploadLifetimeSeconds,
    blobBytesMax: config.blobBytesMax,
    visibility,
    processLock,
  })
  const blobs = new Blobs(db, store, { visibility, graceSeconds: config.gcGraceSeconds })
  const unwrapper = new Unwrapper(
    db,
    store,
    analyzer,
    new KernelBlobs(blobs, uploads),
    config.unwrapsContainers,
  )
  const manifests = new Manifests(db, visibility, analyzer, unwrapper, onCommitted)
  const imageBuilder = new ImageBuilder({ blobs, uploads, manifests, analyzer })
  return {
    analyzer,
    unwrapper,
    uploads,
    blobs,
    manifests,
    manifestReads,
    builds: new Builds(db, blobs),
    imageBuilder,
    builderWeb: config.builderWeb && {
      jobs: new Jobs(db, config.builderWeb.jobs),
      jobBuilds: new JobBuilds(db, config.builderWeb.latestTag, [
        ...config.builderWeb.jobs.values(),
      ]),
      execUploads: new ExecUploads(db, imageBuilder, analyzer),
    },
    images: new Images(db, deriver),
    pictures,
    packageSearch: new PackageSearch(),
    sourceSearch: new SourceSearch(),
    tagHistory: new TagHistory(db, onCommitted),
    listings: new Listings(),
    repositories: new Repositories(db, visibility, onCommitted),
    overviews: new Overviews(),
  }
}
