import { Buffer } from 'node:buffer'
import type { Database, Queryable } from '../../db/database.ts'
import type { HitFilter } from '../../db/images/hit-filters.ts'
import { listImageContents } from '../../db/images/image-contents.ts'
import {
  ANY_IMAGE,
  type ImageFilter,
  type ImagePage,
  type ImageRow,
  listImages,
  listImagesOfKernel,
} from '../../db/images/image-lists.ts'
import {
  type FoundImage,
  type FoundImages,
  findImageLayer,
  findImageManifests,
  findImages,
  type ImageManifestRow,
} from '../../db/images/image-lookups.ts'
import { findNeighbours, type Neighbours } from '../../db/images/image-neighbours.ts'
import { searchImages } from '../../db/images/image-search.ts'
import { nameRanges, resolveVisible } from '../../db/name-patterns.ts'
import { listDigestsWithPrefix } from '../../db/registry/digest-prefixes.ts'
import { findRepository, type View } from '../../db/registry/repositories.ts'
import { findUnwrapState } from '../../db/registry/unwraps.ts'
import type { Deriver, DocumentFormat, StoredImage } from '../../derivation/deriver.ts'
import { type Digest, type DigestPrefix, onlyDigestOf } from '../../oci/digest.ts'
import { badRequest, notFound, RegistryError } from '../../oci/errors.ts'
import type { Glob } from '../../oci/glob.ts'
import type { Reference, Tag } from '../../oci/reference.ts'
import type { ComparisonOutline } from '../../unikernel/compare/outline.ts'
import type { DocumentContext } from '../../unikernel/documents/context.ts'
import type { ImageOutline } from '../../unikernel/documents/outline.ts'
import type { Role } from '../../unikernel/format.ts'
import type { QuestionQueryable } from '../questions.ts'

export type { DocumentFormat, ImageFilter, ImageRow, Neighbours }
export { ANY_IMAGE }

/** Selects an image of an index. Undefined matches any. */
export type KernelSelector = {
  readonly target: string | undefined
  /** Any of them. */
  readonly abiVersions: readonly number[] | undefined
  readonly architecture: string | undefined
}

/** An image whose analysis can be read. */
export type ImageDetails = ImageManifestRow

/** Digests with a prefix that are counted. */
const PREFIXED_MAX = 10
/** The size of an input that is not computed at once: a layout takes longer than its input shows. */
const IN_PROCESS = Number.POSITIVE_INFINITY
const NEWEST = Number.MAX_SAFE_INTEGER

/** Lists, finds and describes unikernel images. */
export class Images {
  readonly #db: Database
  readonly #deriver: Deriver

  constructor(db: Database, deriver: Deriver) {
    this.#db = db
    this.#deriver = deriver
  }

  /** Lists images of a repository, newest first; `next` is the cursor of the next page. Throws NAME_UNKNOWN. */
  async list(
    db: Queryable,
    view: View,
    filter: ImageFilter,
    before: number | undefined,
    limit: number,
  ): Promise<ImagePage> {
    const repositoryId = await findRepository(db, view)
    if (repositoryId === undefined)
      throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    if (limit === 0) return { images: [], next: undefined }
    return listImages(db, repositoryId, filter, before ?? NEWEST, limit)
  }

  /**
   * Finds the image of a tag or digest; in an index, the one that `selector` selects. Throws
   * NAME_UNKNOWN, MANIFEST_UNKNOWN, NOT_FOUND when no unikernel matches, and REQUEST_INVALID with the
   * ways to select when several match.
   */
  async find(
    view: View,
    reference: Reference,
    selector: KernelSelector,
    db: Queryable = this.#db,
  ): Promise<FoundImage> {
    const name = nameOf(reference)
    return select(db, view, name, await findImages(db, view, name), selector)
  }

  /**
   * Lists images of public repositories and those that match `visible`, newest first; `next` is the cursor of the next
   * page. `repositories`: only those that match this pattern, with one star at most. `membersOnly`: no public ones that do
   * not match `visible`.
   */
  async search(
    db: Queryable,
    filter: ImageFilter,
    visible: readonly Glob[],
    { repositories, membersOnly }: { repositories: Glob | undefined; membersOnly: boolean },
    before: number | undefined,
    limit: number,
  ): Promise<ImagePage> {
    if (limit === 0) return { images: [], next: undefined }
    const names = await resolveVisible(db, visible)
    const within = [
      ...(repositories === undefined ? [] : [nameRanges([repositories])]),
      ...(membersOnly ? [names] : []),
    ]
    return searchImages(db, { filter, within }, names, before ?? NEWEST, limit)
  }

  /** Finds the layer of a role of an image. Throws as `find`, and NOT_FOUND when the image was pushed without it. */
  async findLayer(
    view: View,
    reference: Reference,
    selector: KernelSelector,
    role: Role,
  ): Promise<Digest> {
    const { id } = await this.find(view, reference, selector)
    const digest = await findImageLayer(this.#db, id, role)
    if (digest === undefined) throw notFound(`the image was pushed without its ${role}`)
    return digest
  }

  /**
   * Finds the manifest of a shortened digest among those of the repository. Throws NAME_UNKNOWN, MANIFEST_UNKNOWN, and
   * DIGEST_INVALID when several begin with it.
   */
  async findByPrefix(
    view: View,
    prefix: DigestPrefix,
    db: Queryable = this.#db,
  ): Promise<Reference> {
    const repositoryId = await findRepository(db, view)
    if (repositoryId === undefined)
      throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    const found = await listDigestsWithPrefix(db, repositoryId, prefix, PREFIXED_MAX)
    const digest = onlyDigestOf(prefix, found)
    if (digest === undefined) throw new RegistryError('MANIFEST_UNKNOWN', { reference: prefix })
    return { kind: 'digest', digest }
  }

  /** Finds an image for the methods below. `db` is the connection of the question. Throws as `find`. */
  async details(
    db: Queryable,
    view: View,
    reference: Reference,
    selector: KernelSelector,
  ): Promise<ImageDetails> {
    const name = nameOf(reference)
    return select(db, view, name, await findImageManifests(db, view, name), selector)
  }

  /**
   * Describes the contents of an image in JSON, as `describeImage`. The question pays for a result that is
   * not kept. Throws UNAVAILABLE when too many requests wait for one.
   */
  async describe(db: QuestionQueryable, details: ImageDetails): Promise<Uint8Array> {
    return this.#deriver.derive({
      key: `description ${versionOf(details)}`,
      bytes: details.size,
      load: async () => ({ kind: 'description', image: await loadOne(db, details) }),
      spend: (milliseconds) => db.spend(milliseconds),
    })
  }

  /** Outlines an image of the repository `name` for its page, as `outlineImage`. Throws as `describe`. */
  async outline(db: QuestionQueryable, details: ImageDetails, name: string): Promise<ImageOutline> {
    const json = await this.#deriver.derive({
      key: `outline ${versionOf(details)} ${name}`,
      bytes: details.size,
      load: async () => ({ kind: 'outline', image: await loadOne(db, details), name }),
      spend: (milliseconds) => db.spend(milliseconds),
    })
    return JSON.parse(Buffer.from(json).toString())
  }

  /** Finds the README, referrers and builds of an image, and the image before it, in one round trip. */
  async neighbours(db: Queryable, details: Pick<ImageDetails, 'id'>): Promise<Neighbours> {
    return findNeighbours(db, details.id)
  }

  /** Describes the dependencies between the packages of an image in JSON, as `describeDependencies`. Throws as `describe`. */
  async dependencies(db: QuestionQueryable, details: ImageDetails): Promise<Uint8Array> {
    return this.#deriver.derive({
      key: `dependencies ${versionOf(details)}`,
      bytes: details.size,
      load: async () => ({ kind: 'dependencies', image: await loadOne(db, details) }),
      spend: (milliseconds) => db.spend(milliseconds),
    })
  }

  /** Describes the paths to a package of an image in JSON, as `describePaths` or `drawPaths`. Throws as `describe`. */
  async dependencyPaths(
    db: QuestionQueryable,
    details: ImageDetails,
    name: string,
    kind: 'dependency-paths' | 'drawn-dependency-paths' = 'dependency-paths',
  ): Promise<Uint8Array> {
    return this.#deriver.derive({
      key: `${kind} ${versionOf(details)} ${name}`,
      bytes: kind === 'dependency-paths' ? details.size : IN_PROCESS,
      load: async () => ({ kind, image: await loadOne(db, details), package: name }),
      spend: (milliseconds) => db.spend(milliseconds),
    })
  }

  /** Compares two images in JSON, as `compareImages`, `outlineComparison` or `builderWebComparison`. Throws as `describe`. */
  async compare(
    db: QuestionQueryable,
    from: ImageDetails,
    to: ImageDetails,
    kind: 'comparison' | 'comparison-outline' | 'builder-web-comparison' = 'comparison',
  ): Promise<Uint8Array> {
    return this.#deriver.derive({
      key: `${kind} ${versionOf(from)} ${versionOf(to)}`,
      bytes: from.size + to.size,
      load: async () => {
        const stored = await load(db, [from, to])
        return { kind, from: stored(from), to: stored(to) }
      },
      spend: (milliseconds) => db.spend(milliseconds),
    })
  }

  /** Compares two images for their page. Throws as `describe`. */
  async outlineComparison(
    db: QuestionQueryable,
    from: ImageDetails,
    to: ImageDetails,
  ): Promise<ComparisonOutline> {
    const json = await this.compare(db, from, to, 'comparison-outline')
    return JSON.parse(Buffer.from(json).toString())
  }

  /** Writes a document about an image in JSON. Throws as `describe`. */
  async document(
    db: QuestionQueryable,
    details: ImageDetails,
    format: DocumentFormat,
    context: DocumentContext,
  ): Promise<Uint8Array> {
    return this.#deriver.derive({
      key: `${format} ${versionOf(details)} ${JSON.stringify(context)}`,
      bytes: details.size,
      load: async () => ({ kind: 'document', format, image: await loadOne(db, details), context }),
      spend: (milliseconds) => db.spend(milliseconds),
    })
  }

  /**
   * Lists images with this kernel that the filter selects, in public repositories and those that match `visible`, newest
   * first; `next` is the cursor of the next page.
   */
  async listByKernel(
    db: Queryable,
    kernel: Digest,
    filter: HitFilter,
    visible: readonly Glob[],
    before: number | undefined,
    limit: number,
  ): Promise<ImagePage> {
    if (limit === 0) return { images: [], next: undefined }
    const names = await resolveVisible(db, visible)
    return listImagesOfKernel(db, kernel, filter, names, before ?? NEWEST, limit)
  }
}

/** Names the contents of an image, the analyzer and the index of packages: what is derived from the image depends on them. */
function versionOf({ digest, analyzerVersion, indexVersion }: ImageDetails): string {
  return `${digest} ${analyzerVersion} ${indexVersion}`
}

async function loadOne(db: Queryable, image: ImageDetails): Promise<StoredImage> {
  return (await load(db, [image]))(image)
}

/** Loads images in one round trip. The function throws MANIFEST_UNKNOWN for one that was removed meanwhile. */
async function load(
  db: Queryable,
  images: readonly ImageDetails[],
): Promise<(image: ImageDetails) => StoredImage> {
  const rows = await listImageContents(
    db,
    images.map(({ id }) => id),
  )
  return ({ id, digest }) => {
    const row = rows.find((one) => one.id === id)
    if (row === undefined) throw new RegistryError('MANIFEST_UNKNOWN', { reference: digest })
    const { mediaType, bytes: manifest, analyses, packages } = row
    return { mediaType, manifest, analyses, packages }
  }
}

function nameOf(reference: Reference): Tag | Digest {
  return reference.kind === 'tag' ? reference.tag : reference.digest
}

/** Returns the image that the selector selects. Throws as `Images.find`. */
async function select<Image extends FoundImage>(
  db: Queryable,
  view: View,
  name: Tag | Digest,
  { repositoryId, digest, images }: FoundImages<Image>,
  selector: KernelSelector,
): Promise<Image> {
  if (repositoryId === null) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
  if (digest === null) throw new RegistryError('MANIFEST_UNKNOWN', { reference: name })
  const [first, ...others] = images.filter((image) => isSelected(image, selector))
  if (first === undefined) {
    const state = images.length > 0 ? undefined : await findUnwrapState(db, repositoryId, digest)
    throw noMatch(name, images, state)
  }
  // A container image for several platforms may have one kernel in each.
  if (others.some(({ kernelDigest }) => kernelDigest !== first.kernelDigest)) {
    throw ambiguous([first, ...others])
  }
  return first
}

function isSelected(
  image: FoundImage,
  { target, abiVersions, architecture }: KernelSelector,
): boolean {
  return (
    (target === undefined || image.target === target) &&
    (abiVersions === undefined || abiVersions.some((one) => one === image.abiVersion)) &&
    (architecture === undefined || image.architecture === architecture)
  )
}

function noMatch(
  name: string,
  images: readonly FoundImage[],
  state: Awaited<ReturnType<typeof findUnwrapState>>,
): RegistryError {
  const message =
    images.length === 0
      ? `${name} is not a unikernel: ${reasonOf(state)}`
      : `${name} has no such kernel, but ${images.map(describeKernel).join('; ')}`
  return notFound(message, { detail: { reference: name } })
}

function reasonOf(state: Awaited<ReturnType<typeof findUnwrapState>>): string {
  if (state?.isPending) {
    return 'its layers are still read for a Solo5 kernel, which image.unwrapped announces'
  }
  return state?.problem ?? 'it has no Solo5 kernel'
}

function ambiguous(images: readonly FoundImage[]): RegistryError {
  const kinds = images.map(describeKernel).join('; ')
  return badRequest(
    `there are several kernels, select one with ?target=, ?abi= or ?arch=: ${kinds}`,
  )
}

function describeKernel({ target, abiVersion, architecture, digest }: FoundImage): string {
  const abi = abiVersion === null ? 'no Solo5 kernel' : `ABI ${abiVersion}`
  return `${target}, ${abi}, ${architecture ?? 'unknown architecture'} (${digest})`
}
