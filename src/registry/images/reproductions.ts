import type { Queryable } from '../../db/database.ts'
import type { TagFilter } from '../../db/images/hit-filters.ts'
import type { ImageRow } from '../../db/images/image-lists.ts'
import { listImagesOfInputs } from '../../db/images/images-of-inputs.ts'
import { resolveVisible } from '../../db/name-patterns.ts'
import type { Digest } from '../../oci/digest.ts'
import { type Glob, matchesAnyGlob } from '../../oci/glob.ts'
import type { BuildRow, Builds } from '../builds/builds.ts'

/** Images with the same inputs, and images with the same kernels: claims of those who pushed them. */
export type Reproductions = {
  /**
   * Whether the asker's own images of these inputs have one kernel, and the asker built it more than once. Null when that is
   * not known. The images of others do not change it: anybody may push any kernel with the inputs of another. Nor does a filter.
   */
  readonly reproducible: boolean | null
  /** The kernels that somebody says were made from these inputs. The asker's own come first, then the newest. */
  readonly outputs: readonly ReproductionOutput[]
  /** Images with one of these kernels, but other inputs, newest first. */
  readonly otherInputs: readonly ImageRow[]
  /** The builds from these inputs, also failed ones, newest first. */
  readonly builds: readonly BuildRow[]
  /** True when there are more images or builds than these. */
  readonly more: boolean
}

/** A kernel, and the images with which somebody claims it. */
export type ReproductionOutput = {
  readonly kernel: Digest
  /** True when one of the images is the asker's own. */
  readonly own: boolean
  readonly images: readonly ImageRow[]
}

export const REPRODUCTIONS_MAX = 200

/**
 * Lists the images made from these inputs that the filter selects, and images with the same kernels from other inputs. Own
 * are the images in repositories that match `own`. Other repositories have one image a kernel, the newest, so that nobody
 * displaces their claims.
 */
export async function listReproductions(
  db: Queryable,
  builds: Builds,
  inputId: string,
  filter: TagFilter,
  visible: readonly Glob[],
  own: readonly Glob[],
): Promise<Reproductions> {
  const [names, within] = [await resolveVisible(db, visible), await resolveVisible(db, own)]
  const [found, made] = await Promise.all([
    listImagesOfInputs(db, inputId, filter, names, within, REPRODUCTIONS_MAX),
    builds.listByInputs(db, inputId, names),
  ])
  const isOwn = (image: ImageRow) => matchesAnyGlob(own, image.repository)
  const images = [...found.own, ...found.claimed]
  const byKernel = new Map<Digest, ImageRow[]>()
  for (const image of images) {
    const group = byKernel.get(image.kernelDigest)
    if (group === undefined) byKernel.set(image.kernelDigest, [image])
    else group.push(image)
  }
  const ownKernels = images.filter(isOwn).map(({ kernelDigest }) => kernelDigest)
  return {
    // The filter selects what is listed, not which kernels were made.
    reproducible: isReproducible(
      new Set([...found.ownKernels, ...ownKernels]),
      made.builds.filter(({ repository }) => matchesAnyGlob(own, repository)),
    ),
    outputs: [...byKernel].map(([kernel, group]) => ({
      kernel,
      own: group.some(isOwn),
      images: group,
    })),
    otherInputs: found.others,
    builds: made.builds,
    more: found.more || made.next !== undefined,
  }
}

/**
 * One kernel of the asker's own images is reproducible when the asker's own builds made it more than once: a single build
 * shows nothing.
 */
function isReproducible(kernels: ReadonlySet<Digest>, builds: readonly BuildRow[]): boolean | null {
  if (kernels.size > 1) return false
  const succeeded = builds.filter(({ result }) => result === 'succeeded')
  return kernels.size === 1 && succeeded.length > 1 ? true : null
}
