import type { IncomingMessage, ServerResponse } from 'node:http'
import { badRequest, RegistryError, unavailable } from '../oci/errors.ts'

const awaitingContinue = new WeakSet<IncomingMessage>()

/** Marks a request whose client waits for 100 Continue before it sends the body (RFC 9110, section 10.1.1). */
export function expectContinue(req: IncomingMessage): void {
  awaitingContinue.add(req)
}

// A blob may take hours, a form or a document may not.
const BODY_MILLISECONDS_MAX = 24 * 3_600_000
const READ_MILLISECONDS_MAX = 60_000
const READ_BYTES_A_MILLISECOND_MIN = 16
/** Bytes of all bodies that are read as a whole; a manifest has up to 8 MiB. */
const HELD_BYTES_MAX = 128 * 1024 * 1024
const RETRY_SECONDS = 5

let heldBytes = 0

/** The time at which the body must be here, for each request whose body a handler reads. */
const readings = new WeakMap<IncomingMessage, number>()

/** Returns the time, as of `performance.now()`, at which a body must have arrived; undefined while nothing reads it. */
export function readingUntil(req: IncomingMessage): number | undefined {
  return readings.get(req)
}

/** Makes the handler that reads the body throw `error`, and keeps the connection for its response. Returns false when nothing reads it. */
export function failReading(req: IncomingMessage, error: RegistryError): boolean {
  // The iterator listens for this event while it is read.
  return readings.delete(req) && req.emit('error', error)
}

/** The body of a request, which nothing reads before the handler does. */
export class RequestBody {
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  #received = 0

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

  /** The bytes that were read so far. */
  get received(): number {
    return this.#received
  }

  /** Sends 100 Continue if needed, and yields the bytes as they arrive. Throws REQUEST_INVALID for a truncated body, and REQUEST_TIMEOUT for a slow one. */
  async *bytes(millisecondsMax = BODY_MILLISECONDS_MAX): AsyncGenerator<Uint8Array> {
    if (awaitingContinue.delete(this.#req)) this.#res.writeContinue()
    readings.set(this.#req, performance.now() + millisecondsMax)
    try {
      // When the consumer stops early, the response still needs the connection.
      for await (const chunk of this.#req.iterator({ destroyOnReturn: false })) {
        this.#received += chunk.length
        yield chunk
      }
    } catch (cause) {
      throw cause instanceof RegistryError ? cause : badRequest('the body is truncated', { cause })
    } finally {
      readings.delete(this.#req)
    }
  }

  /** Reads the whole body. Throws PAYLOAD_TOO_LARGE for more than `bytesMax`, REQUEST_TIMEOUT, and UNAVAILABLE when others fill the memory for bodies. */
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
    const millisecondsMax = READ_MILLISECONDS_MAX + bytesMax / READ_BYTES_A_MILLISECOND_MIN
    try {
      for await (const chunk of this.bytes(millisecondsMax)) {
        size += chunk.length
        heldBytes += chunk.length
        if (size > bytesMax) throw tooLarge()
        if (heldBytes > HELD_BYTES_MAX) throw tooMuchHeld()
        chunks.push(chunk)
      }
      return Buffer.concat(chunks)
    } finally {
      heldBytes -= size
    }
  }
}

function tooMuchHeld(): RegistryError {
  return unavailable('the registry reads too many large bodies at the moment, try again', {
    retryAfterSeconds: RETRY_SECONDS,
  })
}
