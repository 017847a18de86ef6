import { statfs } from 'node:fs/promises'
import { StoreReserveError } from '../blob-store.ts'

/** A folder whose disk must keep the reserve. */
export type WatchedFolder = {
  readonly path: string
  /** True when the bodies of pushes go there. */
  readonly holdsBlobs: boolean
}

/** `enough`: more than twice the reserve is free; `low`: more than the reserve; `full`: less, so pushes are refused. */
export type DiskState = 'enough' | 'low' | 'full'

/** The free space is read again after this time, however many requests ask. */
const FRESH_MILLISECONDS = 1_000
const LOW_FACTOR = 2

/**
 * Keeps a part of the disk free: the database needs it to continue, and deletes need the database. Pushes that would use it
 * are refused.
 */
export class DiskReserve {
  readonly reserveBytes: number
  /** Called when the state changes, with the folder that has the least space. */
  onState: (state: DiskState, folder: string, freeBytes: number) => void = () => {}
  readonly #folders: readonly WatchedFolder[]
  #free: readonly number[] = []
  #readAt = Number.NEGATIVE_INFINITY
  #reading: Promise<void> | undefined
  #state: DiskState = 'enough'

  constructor(folders: readonly WatchedFolder[], reserveBytes: number) {
    this.#folders = folders
    this.reserveBytes = reserveBytes
  }

  /** Throws StoreReserveError when less than the reserve would be free after so many bytes of a body. */
  async assertRoom(bodyBytes: number): Promise<void> {
    await this.check()
    this.#assertFree(bodyBytes)
  }

  /** Yields the chunks of a body, until the disk has no more than the reserve. Throws StoreReserveError. */
  async *guard(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      if (!this.#isFresh()) await this.check()
      this.#assertFree(0)
      yield chunk
    }
  }

  /** Reads the free space, unless that was done within a second. A folder that cannot be read has enough. */
  async check(): Promise<void> {
    if (this.#isFresh()) return
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined
    })
    await this.#reading
  }

  #isFresh(): boolean {
    return performance.now() - this.#readAt < FRESH_MILLISECONDS
  }

  #assertFree(bodyBytes: number): void {
    this.#folders.forEach(({ path, holdsBlobs }, index) => {
      const free = (this.#free[index] ?? Infinity) - (holdsBlobs ? bodyBytes : 0)
      if (free < this.reserveBytes)
        throw new StoreReserveError(`the disk of ${path} has only its reserve left`)
    })
  }

  async #read(): Promise<void> {
    const folders = this.#folders
    this.#free = await Promise.all(folders.map(({ path }) => freeBytes(path)))
    this.#readAt = performance.now()
    const least = Math.min(...this.#free)
    const state = this.#stateOf(least)
    if (state === this.#state) return
    this.#state = state
    this.onState(state, folders[this.#free.indexOf(least)]?.path ?? '', least)
  }

  #stateOf(free: number): DiskState {
    if (free < this.reserveBytes) return 'full'
    return free < this.reserveBytes * LOW_FACTOR ? 'low' : 'enough'
  }
}

/** Returns the bytes that programs without special rights may still write below the folder. */
async function freeBytes(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize
  } catch {
    return Infinity
  }
}
