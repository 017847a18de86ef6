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

/** Which image of an index is meant; undefined matches any. */
export type KernelSelector = {
  readonly target: string | undefined
  readonly abiVersion: number | undefined
  readonly architecture: string | undefined
}

/** One image with everything that was read out of it. */
export type ImageDetails = {
  /** Of the manifest. */
  readonly digest: Digest
  readonly mediaType: string
  readonly tags: readonly Tag[]
  readonly pushedAt: Date
  readonly pushedBy: string
  readonly image: UnikernelImage
}

/** Images of the same inputs, and of the same output. */
export type Reproductions = {
  readonly inputId: string
  /** What came of these inputs: one kernel, or several when the build is not reproducible. */
  readonly outputs: readonly { readonly kernel: Digest; readonly images: readonly ImageRow[] }[]
  /** Images with one of these kernels that were made from other inputs. */
  readonly otherInputs: readonly ImageRow[]
  /** True when there are more images than these. */
  readonly more: boolean
}

// Images that a page looks at, however few of them the filter lets through.
const SCAN_MAX = 10_000
export const REPRODUCTIONS_MAX = 200
const NEWEST = Number.MAX_SAFE_INTEGER

/** What unikernels there are, and what is known of them. */
export class Images {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  /** Images of a repository, the newest first; `next` is where the next page begins. Throws NAME_UNKNOWN. */
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
   * The one image that a tag or digest stands for, or that `choice` leaves of an index. Throws
   * NAME_UNKNOWN, MANIFEST_UNKNOWN, NOT_FOUND for what is no such unikernel, and REQUEST_INVALID when
   * several are left: it says what to choose by.
   */
  async find(view: View, reference: Reference, choice: KernelSelector): Promise<FoundImage> {
    const name = reference.kind === 'tag' ? reference.tag : reference.digest
    const { repositoryId, digest, images } = await findImages(this.#db, view, name)
    if (repositoryId === null) throw new RegistryError('NAME_UNKNOWN', { name: view.repository })
    if (digest === null) throw new RegistryError('MANIFEST_UNKNOWN', { reference: name })
    const [first, ...others] = images.filter((image) => isChosen(image, choice))
    if (first === undefined) throw noneChosen(name, images)
    if (others.length > 0) throw severalChosen([first, ...others])
    return first
  }

  /** Everything that is known of one image. Throws as `find`. */
  async read(view: View, reference: Reference, choice: KernelSelector): Promise<ImageDetails> {
    const { id, digest } = await this.find(view, reference, choice)
    const row = await findImageAnalyses(this.#db, id)
    if (row === undefined) throw new RegistryError('MANIFEST_UNKNOWN', { reference: digest })
    const { mediaType, bytes, tags, pushedAt, pushedBy, analyses } = row
    const image = assembleImage(
      parseManifest(bytes, mediaType),
      new AnalysisCache(analysesOf(analyses)).find,
    )
    if (image === undefined) throw new Error(`what was read of ${digest} is gone`)
    return { digest, mediaType, tags, pushedAt, pushedBy, image }
  }

  /** Images with this kernel, in what is public or named by `visible`, the newest first. */
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

  /** What came of these inputs, and from what else the same came. */
  async listByInputs(inputId: string, visible: readonly string[]): Promise<Reproductions> {
    const limit = REPRODUCTIONS_MAX + 1
    const found = await listImagesBy(this.#db, { inputId }, visible, NEWEST, limit)
    const images = found.slice(0, REPRODUCTIONS_MAX)
    const byKernel = new Map<Digest, ImageRow[]>()
    for (const image of images) {
      const made = byKernel.get(image.kernelDigest) ?? []
      byKernel.set(image.kernelDigest, [...made, image])
    }
    const key = { kernels: [...byKernel.keys()], otherThan: inputId }
    const others =
      byKernel.size === 0 ? [] : await listImagesBy(this.#db, key, visible, NEWEST, limit)
    return {
      inputId,
      outputs: [...byKernel].map(([kernel, made]) => ({ kernel, images: made })),
      otherInputs: others.slice(0, REPRODUCTIONS_MAX),
      more: found.length === limit || others.length === limit,
    }
  }
}

function isChosen(
  image: FoundImage,
  { target, abiVersion, architecture }: KernelSelector,
): boolean {
  return (
    (target === undefined || image.target === target) &&
    (abiVersion === undefined || image.abiVersion === abiVersion) &&
    (architecture === undefined || image.architecture === architecture)
  )
}

function noneChosen(name: string, images: readonly FoundImage[]): RegistryError {
  const message =
    images.length === 0
      ? `${name} is no unikernel: no Solo5 kernel was found in it`
      : `${name} has no such kernel, but ${images.map(describedKind).join('; ')}`
  return notFound(message, { detail: { reference: name } })
}

function severalChosen(images: readonly FoundImage[]): RegistryError {
  const kinds = images.map(describedKind).join('; ')
  return badRequest(
    `there are several kernels, choose one with ?target=, ?abi= or ?arch=: ${kinds}`,
  )
}

function describedKind({ target, abiVersion, architecture, digest }: FoundImage): string {
  return `${target}, ABI ${abiVersion}, ${architecture ?? 'unknown architecture'} (${digest})`
}
