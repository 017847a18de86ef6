import { expect } from 'vitest'
import { type RawAnswer, RawConnection } from '../support/raw-client.ts'

export const MIB = 1024 * 1024
export const MANIFEST_BYTES_MAX = 8 * MIB

/** Returns the error code of a response. */
export function codeOf({ headers, body }: RawAnswer): string {
  expect(headers.get('content-type')).toMatch(/^application\/json/)
  return JSON.parse(body.toString()).errors[0].code
}

/** Raw connections that are closed together. */
export class Connections {
  readonly #opened: RawConnection[] = []

  async open(url: string): Promise<RawConnection> {
    const connection = await RawConnection.open(url)
    this.#opened.push(connection)
    return connection
  }

  close(): void {
    for (const connection of this.#opened.splice(0)) connection.close()
  }
}
