import type { Queryable } from '../../db/database.ts'
import { type AnalyzedBlobRow, listAnalyzedBlobs } from '../../db/images/layer-analyses.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import { LAYER_FILES_VERSION } from '../../unikernel/container/layer-files.ts'
import { ANALYZER_VERSION } from '../../unikernel/layer-analysis.ts'

/** The roles of the facts about the files of a layer: its kernels, and the paths of its entries. */
export const KERNELS = 'container-kernels'
export const PATHS = 'container-paths'
// Roles whose values a push does not need, only whether they have a problem: some 100 KB each.
const LARGE_ROLES = ['opam-switch', 'opam-lock', 'system-packages', PATHS]
const VERSIONS = { analyzer: ANALYZER_VERSION, layerFiles: LAYER_FILES_VERSION }

/**
 * Loads blobs of a repository with their current analyses, without large facts, for the analysis of an image and for its
 * unwrapping. Blobs missing from the repository are left out.
 */
export function loadBlobRows(
  db: Queryable,
  repository: Repository,
  digests: readonly Digest[],
): Promise<AnalyzedBlobRow[]> {
  return listAnalyzedBlobs(db, repository, digests, VERSIONS, LARGE_ROLES)
}

/** Loads blobs as `loadBlobRows` does, with all facts. */
export function loadWholeBlobRows(
  db: Queryable,
  repository: Repository,
  digests: readonly Digest[],
): Promise<AnalyzedBlobRow[]> {
  return listAnalyzedBlobs(db, repository, digests, VERSIONS, [])
}
