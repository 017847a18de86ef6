import type { Database } from '../../db/database.ts'
import {
  type FoundImage,
  findImageAnalyses,
  findImages,
  type ImageFilter,
  type ImageRow,
  listImages,
  listImagesBy,
} from '../../db/images/image-lists.ts'
import { findRepository, type View } from '../../db/registry/repositories.ts'
import type { Digest } from '../../oci/digest.ts'
import { badRequest, notFound, RegistryError } from '../../oci/errors.ts'
import { parseManifest } from '../../oci/manifest.ts'
import type { Reference, Tag } from '../../oci/reference.ts'
import { AnalysisCache } from '../../unikernel/analysis-cache.ts'
import { assembleImage } from '../../unikernel/assembly.ts'
import type { UnikernelImage } from '../../unikernel/image.ts'
import type { Page } from '../listings.ts'
import { analysesOf } from './stored-analyses.ts'

export type { ImageFilter, ImageRow }

/** Selects an image of an index. Undefined matches any. */
export type KernelSelector = {
  readonly target: string | undefined
  readonly abiVersion: number | undefined
  readonly architecture: string | undefined
}

/** An image with its analysis. */
export type ImageDetails = {
  /** Digest of the manifest. */
  readonly digest: Digest
  readonly mediaType: string
  readonly tags: readonly Tag[]
  readonly pushedAt: Date
  readonly pushedBy: string
  readonly image: UnikernelImage
}

/** Images with the same inputs, and images with the same kernels. */
export type Reproductions = {
  readonly inputId: string
  /** The kernels made from these inputs: several when the build is not reproducible. */
  readonly outputs: readonly { readonly kernel: Digest; readonly images: readonly ImageRow[] }[]
  /** Images with one of these kernels, but other inputs. */
  readonly otherInputs: readonly ImageRow[]
  /** True when there are more images than these. */
  readonly more: boolean
}

// The most images that a page reads, even if few of them match the filter.
const SCAN_MAX = 10_000
export const REPRODUCTIONS_MAX = 200
const NEWEST = Number.MAX_SAFE_INTEGER

/** Lists, finds and describes unikernel images. */
export class Images {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  /** Lists images of a repository, newest first; `next` is the cursor of the next page. Throws NAME_UNKNOWN. */
  async list(
    view: View,
    filter: ImageFilter,
    before: number | undefined,
    limit: number,
  ): Promise<{ images: readonly ImageRow[]; next: number | undefined }> {
    const repositoryId = await findRepository(this.#db, view)
    if (repositoryId === undefined)
      throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    if (limit === 0) return { images: [], next: undefined }
    const from = before ?? NEWEST
    const found = await listImages(this.#db, repositoryId, filter, from, limit + 1, SCAN_MAX)
    const images = found.images.slice(0, limit)
    const next = found.images.length > limit ? images.at(-1)?.id : found.scannedTo
    return { images, next }
  }

  /**
   * Finds the image of a tag or digest; in an index, the one that `selector` selects. Throws
   * NAME_UNKNOWN, MANIFEST_UNKNOWN, NOT_FOUND when no unikernel matches, and REQUEST_INVALID with the
   * ways to select when several match.
   */
  async find(view: View, reference: Reference, selector: KernelSelector): Promise<FoundImage> {
    const name = reference.kind === 'tag' ? reference.tag : reference.digest
    const { repositoryId, digest, images } = await findImages(this.#db, view, name)
    if (repositoryId === null) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    if (digest === null) throw new RegistryError('MANIFEST_UNKNOWN', { reference: name })
    const [first, ...others] = images.filter((image) => isSelected(image, selector))
    if (first === undefined) throw noMatch(name, images)
    if (others.length > 0) throw ambiguous([first, ...others])
    return first
  }

  /** Reads an image with its analysis. Throws as `find`. */
  async read(view: View, reference: Reference, selector: KernelSelector): Promise<ImageDetails> {
    const { id, digest } = await this.find(view, reference, selector)
    const row = await findImageAnalyses(this.#db, id)
    if (row === undefined) throw new RegistryError('MANIFEST_UNKNOWN', { reference: digest })
    const { mediaType, bytes, tags, pushedAt, pushedBy, analyses } = row
    const image = assembleImage(
      parseManifest(bytes, mediaType),
      new AnalysisCache(analysesOf(analyses)).find,
    )
    if (image === undefined) throw new Error(`the analysis of ${digest} is missing`)
    return { digest, mediaType, tags, pushedAt, pushedBy, image }
  }

  /** Lists images with this kernel, in public repositories and those that match `visible`, newest first. */
  async listByKernel(
    kernel: Digest,
    visible: readonly string[],
    before: number | undefined,
    limit: number,
  ): Promise<Page<ImageRow>> {
    if (limit === 0) return { items: [], more: false }
    const key = { kernels: [kernel] }
    const rows = await listImagesBy(this.#db, key, visible, before ?? NEWEST, limit + 1)
    return { items: rows.slice(0, limit), more: rows.length > limit }
  }

  /** Lists the images made from these inputs, and images with the same kernels from other inputs. */
  async listByInputs(inputId: string, visible: readonly string[]): Promise<Reproductions> {
    const limit = REPRODUCTIONS_MAX + 1
    const found = await listImagesBy(this.#db, { inputId }, visible, NEWEST, limit)
    const images = found.slice(0, REPRODUCTIONS_MAX)
    const byKernel = new Map<Digest, ImageRow[]>()
    for (const image of images) {
      const group = byKernel.get(image.kernelDigest) ?? []
      byKernel.set(image.kernelDigest, [...group, image])
    }
    const key = { kernels: [...byKernel.keys()], otherThan: inputId }
    const others =
      byKernel.size === 0 ? [] : await listImagesBy(this.#db, key, visible, NEWEST, limit)
    return {
      inputId,
      outputs: [...byKernel].map(([kernel, group]) => ({ kernel, images: group })),
      otherInputs: others.slice(0, REPRODUCTIONS_MAX),
      more: found.length === limit || others.length === limit,
    }
  }
}

function isSelected(
  image: FoundImage,
  { target, abiVersion, architecture }: KernelSelector,
): boolean {
  return (
    (target === undefined || image.target === target) &&
    (abiVersion === undefined || image.abiVersion === abiVersion) &&
    (architecture === undefined || image.architecture === architecture)
  )
}

function noMatch(name: string, images: readonly FoundImage[]): RegistryError {
  const message =
    images.length === 0
      ? `${name} is not a unikernel: it has no Solo5 kernel`
      : `${name} has no such kernel, but ${images.map(describeKernel).join('; ')}`
  return notFound(message, { detail: { reference: name } })
}

function ambiguous(images: readonly FoundImage[]): RegistryError {
  const kinds = images.map(describeKernel).join('; ')
  return badRequest(
    `there are several kernels, select one with ?target=, ?abi= or ?arch=: ${kinds}`,
  )
}

function describeKernel({ target, abiVersion, architecture, digest }: FoundImage): string {
  return `${target}, ABI ${abiVersion}, ${architecture ?? 'unknown architecture'} (${digest})`
}
