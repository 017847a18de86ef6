import type { IncomingMessage, ServerResponse } from 'node:http'
import { badRequest, RegistryError } from '../oci/errors.ts'

const awaitingContinue = new WeakSet<IncomingMessage>()

/** Marks a request whose client sends no body before it is told to (RFC 9110, section 10.1.1). */
export function expectContinue(req: IncomingMessage): void {
  awaitingContinue.add(req)
}

/** The request's body, untouched until a handler asks for it. */
export class RequestBody {
  readonly #req: IncomingMessage
  readonly #res: ServerResponse

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.#req = req
    this.#res = res
  }

  /** Content-Length in bytes; undefined for a chunked body. */
  get length(): number | undefined {
    const header = this.#req.headers['content-length']
    return header === undefined ? undefined : Number(header)
  }

  /** False when the client said that there is none. */
  get present(): boolean {
    return this.#req.headers['transfer-encoding'] !== undefined || (this.length ?? 0) > 0
  }

  /** Lets the client send, and gives the bytes as they come. Throws REQUEST_INVALID when it stops. */
  async *bytes(): AsyncGenerator<Uint8Array> {
    if (awaitingContinue.delete(this.#req)) this.#res.writeContinue()
    try {
      // The connection is still needed for the answer when the consumer stops early.
      yield* this.#req.iterator({ destroyOnReturn: false })
    } catch (cause) {
      throw badRequest('the body ended before it was complete', { cause })
    }
  }

  /** The whole body, when it has at most `bytesMax`. Throws PAYLOAD_TOO_LARGE. */
  async read(bytesMax: number): Promise<Buffer> {
    const tooLarge = () =>
      new RegistryError(
        'PAYLOAD_TOO_LARGE',
        { limit: bytesMax },
        { message: `the body may have at most ${bytesMax} bytes` },
      )
    if ((this.length ?? 0) > bytesMax) throw tooLarge()
    const chunks: Uint8Array[] = []
    let size = 0
    for await (const chunk of this.bytes()) {
      size += chunk.length
      if (size > bytesMax) throw tooLarge()
      chunks.push(chunk)
    }
    return Buffer.concat(chunks)
  }
}
