import { LRUCache } from 'lru-cache'
import type { Queryable } from '../db/database.ts'
import { type ImageName, listImageKernels } from '../db/deployments/kernels.ts'
import type { ImageKernels } from './preflight.ts'

const IMAGES_MAX = 2_000
/** An image that was deleted, or whose kernels were read anew, is noticed after this time. */
const KEPT_MILLISECONDS = 30_000

/** Reads the kernels of images, and keeps them for a while: many hosts ask for the same ones. */
export class ImageKernelsCache {
  readonly #db: Queryable
  readonly #kept = new LRUCache<string, ImageKernels>({ max: IMAGES_MAX, ttl: KEPT_MILLISECONDS })

  constructor(db: Queryable) {
    this.#db = db
  }

  /** Returns the function that finds the kernels of each of these images; undefined for one that does not exist. */
  async load(
    images: readonly ImageName[],
  ): Promise<(image: ImageName) => ImageKernels | undefined> {
    const found = new Map<string, ImageKernels>()
    const missing = new Map<string, ImageName>()
    for (const image of images) {
      const key = keyOf(image)
      const kept = this.#kept.get(key)
      if (kept === undefined) missing.set(key, image)
      else found.set(key, kept)
    }
    if (missing.size > 0) {
      for (const row of await listImageKernels(this.#db, [...missing.values()])) {
        found.set(keyOf(row), row)
        if (!row.isPending) this.#kept.set(keyOf(row), row)
      }
    }
    return (image) => found.get(keyOf(image))
  }
}

function keyOf({ repository, digest }: ImageName): string {
  return `${repository}@${digest}`
}
