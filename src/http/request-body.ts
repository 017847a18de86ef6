import type { IncomingMessage, ServerResponse } from 'node:http'
import { badRequest, RegistryError } from '../oci/errors.ts'

const awaitingContinue = new WeakSet<IncomingMessage>()

/** Marks a request whose client waits for 100 Continue before it sends the body (RFC 9110, section 10.1.1). */
export function expectContinue(req: IncomingMessage): void {
  awaitingContinue.add(req)
}

/** The body of a request, which nothing reads before the handler does. */
export class RequestBody {
  readonly #req: IncomingMessage
  readonly #res: ServerResponse

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.#req = req
    this.#res = res
  }

  /** The Content-Length in bytes; undefined for a chunked body. */
  get length(): number | undefined {
    const header = this.#req.headers['content-length']
    return header === undefined ? undefined : Number(header)
  }

  /** False when the headers announce no body. */
  get present(): boolean {
    return this.#req.headers['transfer-encoding'] !== undefined || (this.length ?? 0) > 0
  }

  /** Sends 100 Continue if needed, and yields the bytes as they arrive. Throws REQUEST_INVALID for a truncated body. */
  async *bytes(): AsyncGenerator<Uint8Array> {
    if (awaitingContinue.delete(this.#req)) this.#res.writeContinue()
    try {
      // When the consumer stops early, the response still needs the connection.
      yield* this.#req.iterator({ destroyOnReturn: false })
    } catch (cause) {
      throw badRequest('the body is truncated', { cause })
    }
  }

  /** Reads the whole body. Throws PAYLOAD_TOO_LARGE for more than `bytesMax`. */
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
