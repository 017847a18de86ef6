import { createCipheriv, createDecipheriv, randomFillSync } from 'node:crypto'

const BLOCK_BYTES = 16
const SPACE_BYTES = 4
const NUMBER_BYTES = 6
const BLOCK = /^[0-9a-f]{32}$/

/**
 * Encrypts numbers for cursors: two texts show nobody how far apart their numbers are, nor whether they are equal.
 * All replicas have the same key.
 */
export class CursorCipher {
  // One block with random bytes in it: ECB repeats nothing, and the cipher stays open from block to block.
  readonly #encrypt
  readonly #decrypt

  /** `key`: 32 bytes. */
  constructor(key: Uint8Array) {
    this.#encrypt = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false)
    this.#decrypt = createDecipheriv('aes-256-ecb', key, null).setAutoPadding(false)
  }

  /** Encrypts a number below 2^48. `space`, below 2^32, says what it counts. Returns 32 hexadecimal digits. */
  encrypt(space: number, value: number): string {
    // |space|value|random|
    const block = Buffer.allocUnsafe(BLOCK_BYTES)
    block.writeUInt32BE(space, 0)
    block.writeUIntBE(value, SPACE_BYTES, NUMBER_BYTES)
    randomFillSync(block, SPACE_BYTES + NUMBER_BYTES)
    return this.#encrypt.update(block).toString('hex')
  }

  /**
   * Decrypts a text of `encrypt`. Undefined for a text of another form. A text of another key has a random `space`.
   */
  decrypt(text: string): { space: number; value: number } | undefined {
    if (!BLOCK.test(text)) return undefined
    const block = this.#decrypt.update(Buffer.from(text, 'hex'))
    return {
      space: block.readUInt32BE(0),
      value: block.readUIntBE(SPACE_BYTES, NUMBER_BYTES),
    }
  }
}
