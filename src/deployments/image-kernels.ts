import { LRUCache } from 'lru-cache'
import type { Queryable } from '../db/database.ts'
import { type ImageName, listImageKernels } from '../db/deployments/kernels.ts'
import type { ImageKernels } from './preflight.ts'

const IMAGES_MAX = 2_000
/** An image that was deleted, or whose kernels were read anew, is noticed after this time. */
const KEPT_MILLISECONDS = 30_000

/** Finds the kernels of an image; undefined for one that does not exist. */
type FindKernels = (image: ImageName) => ImageKernels | undefined

/** Reads the kernels of images, and keeps them for a while: many hosts ask for the same ones, and share a read. */
export class ImageKernelsCache {
  readonly #db: Queryable
  readonly #kept = new LRUCache<string, ImageKernels>({ max: IMAGES_MAX, ttl: KEPT_MILLISECONDS })
  /** The reads in progress, by image. */
  readonly #reads = new Map<string, Promise<FindKernels>>()

  constructor(db: Queryable) {
    this.#db = db
  }

  /** Returns the function that finds the kernels of each of these images. */
  async load(images: readonly ImageName[]): Promise<FindKernels> {
    const { found, missing } = this.#split(images)
    if (missing.size === 0) return (image) => found.get(keyOf(image))
    const shared = [...missing.keys()].flatMap((key) => this.#reads.get(key) ?? [])
    const others = [...missing].filter(([key]) => !this.#reads.has(key))
    const reads = await Promise.all([...new Set(shared), this.#share(new Map(others))])
    return (image) => found.get(keyOf(image)) ?? firstOf(reads, image)
  }

  /** Does the same in a transaction, which must not wait for a connection of another reader: it may have the last one. */
  async loadWithin(tx: Queryable, images: readonly ImageName[]): Promise<FindKernels> {
    const { found, missing } = this.#split(images)
    if (missing.size === 0) return (image) => found.get(keyOf(image))
    const find = await this.#read(tx, missing)
    return (image) => found.get(keyOf(image)) ?? find(image)
  }

  #split(images: readonly ImageName[]) {
    const found = new Map<string, ImageKernels>()
    const missing = new Map<string, ImageName>()
    for (const image of images) {
      const kept = this.#kept.get(keyOf(image))
      if (kept === undefined) missing.set(keyOf(image), image)
      else found.set(keyOf(image), kept)
    }
    return { found, missing }
  }

  async #share(images: ReadonlyMap<string, ImageName>): Promise<FindKernels> {
    if (images.size === 0) return () => undefined
    const read = this.#read(this.#db, images)
    for (const key of images.keys()) this.#reads.set(key, read)
    try {
      return await read
    } finally {
      for (const key of images.keys()) this.#reads.delete(key)
    }
  }

  async #read(db: Queryable, images: ReadonlyMap<string, ImageName>): Promise<FindKernels> {
    const rows = await listImageKernels(db, [...images.values()])
    for (const row of rows) if (!row.isPending) this.#kept.set(keyOf(row), row)
    const byKey = new Map(rows.map((row) => [keyOf(row), row]))
    return (image) => byKey.get(keyOf(image))
  }
}

function firstOf(reads: readonly FindKernels[], image: ImageName): ImageKernels | undefined {
  for (const find of reads) {
    const kernels = find(image)
    if (kernels !== undefined) return kernels
  }
  return undefined
}

function keyOf({ repository, digest }: ImageName): string {
  return `${repository}@${digest}`
}
