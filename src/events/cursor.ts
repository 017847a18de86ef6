import { CursorCipher } from './cursor-cipher.ts'

/** A position in the order of all events, with the first eight digits of the epoch. */
export type Cursor = { readonly epoch: string; readonly position: number }

const HEXADECIMAL = 16
const EPOCH_DIGITS = 8

/** The cursors of the feed as clients keep them: encrypted, because positions count private events too. */
export class FeedCursors {
  readonly #cipher: CursorCipher
  #last: (Cursor & { readonly text: string }) | undefined

  /** `key`: 32 bytes, the same on all replicas. */
  constructor(key: Uint8Array) {
    this.#cipher = new CursorCipher(key)
  }

  /**
   * Returns undefined for a text that is no cursor. A cursor that was encrypted with another key has another epoch.
   */
  parse(text: string): Cursor | undefined {
    const found = this.#cipher.decrypt(text)
    if (found === undefined) return undefined
    const epoch = found.space.toString(HEXADECIMAL).padStart(EPOCH_DIGITS, '0')
    return { epoch, position: found.value }
  }

  /** Returns the text of a cursor: each time another one, so that nobody sees whether the feed has moved. */
  format({ epoch, position }: Cursor): string {
    return this.#cipher.encrypt(Number.parseInt(epoch, HEXADECIMAL), position)
  }

  /** Returns the cursor of an event that its readers may see: encrypted once for all followers. */
  ofEvent({ epoch, position }: Cursor): string {
    if (this.#last?.position !== position || this.#last.epoch !== epoch) {
      this.#last = { epoch, position, text: this.format({ epoch, position }) }
    }
    return this.#last.text
  }
}
