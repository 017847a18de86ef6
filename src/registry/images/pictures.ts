import { Buffer } from 'node:buffer'
import { setTimeout as delay } from 'node:timers/promises'
import type { Database, Queryable } from '../../db/database.ts'
import {
  claimPicture,
  findLayerFacts,
  findPicture,
  type NewPicture,
  type PictureKind,
  type PictureRow,
  putPicture,
  releasePicture,
} from '../../db/images/layer-pictures.ts'
import type { PictureMaker, PictureTask } from '../../derivation/picture-maker.ts'
import type { Digest } from '../../oci/digest.ts'
import { notFound, RegistryError } from '../../oci/errors.ts'
import type { BlobStore } from '../../storage/blob-store.ts'
import { MalformedKernelError } from '../../unikernel/kernel/elf-bytes.ts'
import { readSymbolTable } from '../../unikernel/kernel/elf-symbols.ts'
import { withStoreErrors } from '../store-errors.ts'
import type { ImageDetails } from './images.ts'

/** Increased whenever pictures change: earlier ones are then made again. */
const PICTURES_VERSION = 1
/** The layers that a picture is made of: the first of them that an image has. */
const ROLES: Readonly<Record<PictureKind, readonly string[]>> = {
  graph: ['opam-switch'],
  // The kernel of an image with a debug twin is the same program without names.
  sizes: ['debug', 'kernel'],
}
// A process that died with a picture leaves it to the next one after this time; a picture that ended several processes is
// not made again.
const LEASE_SECONDS = 300
const ATTEMPTS_MAX = 3
// Most pictures are made within this time. A request waits no longer: its answer says that the picture is being made.
const WAIT_MILLISECONDS = 1_500

/** A picture of an image. */
export type Picture =
  /** The image has no layer that it could be made of. */
  | { readonly state: 'missing' }
  | { readonly state: 'being made' }
  | { readonly state: 'refused'; readonly of: PictureLayer; readonly problem: string }
  /** `facts`: JSON of what it shows, null for a graph. `picture`: JSON of its coordinates. */
  | {
      readonly state: 'made'
      readonly of: PictureLayer
      readonly facts: string | null
      readonly picture: string
    }

/** The layer that a picture was made of. */
export type PictureLayer = {
  readonly role: string
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
}

/** Makes pictures of the layers of images, each once in a process, and keeps them. */
export class Pictures {
  readonly #db: Database
  readonly #store: BlobStore
  readonly #maker: PictureMaker
  readonly #onError: (error: unknown) => void
  readonly #making = new Map<string, Promise<NewPicture | undefined>>()

  /** `onError` receives failures of pictures that are made in the background. */
  constructor(
    db: Database,
    store: BlobStore,
    maker: PictureMaker,
    onError: (error: unknown) => void,
  ) {
    this.#db = db
    this.#store = store
    this.#maker = maker
    this.#onError = onError
  }

  /**
   * Returns a picture of an image: `graph` is GraphPicture of its dependencies, `sizes` is TreemapPicture of its largest parts with
   * ProgramSizes as facts. The first request begins to make it, and waits at most WAIT_MILLISECONDS. `db` is the connection of the
   * question. Throws UNAVAILABLE when too many pictures wait.
   */
  async find(db: Queryable, image: Pick<ImageDetails, 'id'>, kind: PictureKind): Promise<Picture> {
    const row = await findPicture(db, image.id, ROLES[kind], kind, PICTURES_VERSION)
    if (row === undefined) return { state: 'missing' }
    const made = madeOf(row) ?? (await this.#makeWithin(row, kind))
    if (made === undefined) return { state: 'being made' }
    const of = { role: row.role, digest: row.digest, size: row.size }
    return 'problem' in made
      ? { state: 'refused', of, problem: made.problem }
      : { state: 'made', of, ...made }
  }

  /** Waits for the pictures that are being made. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#making.values())
  }

  async #makeWithin(row: PictureRow, kind: PictureKind): Promise<NewPicture | undefined> {
    if (row.lost) throw notFound('the registry lost the bytes of the file')
    const key = `${kind} ${row.blobId}`
    let making = this.#making.get(key)
    if (making === undefined) {
      making = this.#make(row, kind)
      this.#making.set(key, making)
      const end = () => this.#making.delete(key)
      making.then(end, (error) => {
        end()
        // A client that waits gets the others as its answer.
        if (!(error instanceof RegistryError)) this.#onError(error)
      })
    }
    return await Promise.race([making, delay(WAIT_MILLISECONDS, undefined, { ref: false })])
  }

  /** Undefined when another process makes it. */
  async #make(row: PictureRow, kind: PictureKind): Promise<NewPicture | undefined> {
    const { blobId } = row
    const db = this.#db
    const attempts = await claimPicture(db, blobId, kind, PICTURES_VERSION, LEASE_SECONDS)
    if (attempts === undefined) return undefined
    try {
      const made =
        attempts > ATTEMPTS_MAX
          ? { problem: `too large to draw: ${ATTEMPTS_MAX} processes ended meanwhile` }
          : await this.#draw(row, kind).catch(problemOf)
      await putPicture(db, blobId, kind, PICTURES_VERSION, made)
      return made
    } catch (error) {
      await releasePicture(db, blobId, kind, PICTURES_VERSION)
      throw error
    }
  }

  async #draw(row: PictureRow, kind: PictureKind): Promise<NewPicture> {
    if (kind === 'graph') {
      const facts = await findLayerFacts(this.#db, row.blobId, row.role)
      if (facts === null) return { problem: 'the switch export could not be parsed' }
      return this.#maker.make(async () => ({ kind: 'graph-picture', facts }))
    }
    return this.#maker.make(() => this.#sizesTask(row))
  }

  async #sizesTask({ size, storageKey }: PictureRow): Promise<PictureTask> {
    const table = await readSymbolTable(size, async (start, end) => {
      const chunks: Uint8Array[] = []
      // The store reuses a chunk's memory for the next chunk.
      for await (const chunk of withStoreErrors(this.#store.read(storageKey, { start, end }))) {
        chunks.push(Buffer.from(chunk))
      }
      return Buffer.concat(chunks)
    })
    if (table === undefined) throw new NoPictureError('the file is not an ELF executable')
    return { kind: 'sizes-picture', table }
  }
}

/** Returns the picture of a row. Undefined when there is none yet. */
function madeOf({ facts, picture, problem }: PictureRow): NewPicture | undefined {
  if (picture !== null) return { facts, picture }
  return problem === null ? undefined : { problem }
}

/** Turns an error about the bytes of a layer into a problem. Throws other errors. */
function problemOf(error: unknown): NewPicture {
  if (error instanceof MalformedKernelError || error instanceof NoPictureError) {
    return { problem: error.message }
  }
  throw error
}

/** There is no picture of a layer, and there never will be. */
class NoPictureError extends Error {
  override readonly name = 'NoPictureError'
}
