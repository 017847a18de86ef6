import { Busboy, type BusboyConfig, type BusboyInstance } from '@fastify/busboy'
import { badRequest, type RegistryError } from '../oci/errors.ts'
import type { RouteContext } from './route.ts'

// An image has at most ten parts. A form with more is a mistake, and the error names the allowed parts.
const PARTS_MAX = 32
const VALUE_BYTES_MAX = 4096
const PART_HEADERS_MAX = 32
const PART_HEADER_BYTES_MAX = 16 * 1024
const READ_AHEAD_BYTES = 256 * 1024

/** A part of a form (RFC 7578). The bytes of a file must be read before the next part is requested. */
export type FormPart =
  | { readonly kind: 'value'; readonly name: string; readonly value: string }
  | {
      readonly kind: 'file'
      readonly name: string
      /** Without folders; undefined when the client sent none. */
      readonly fileName: string | undefined
      readonly bytes: AsyncIterable<Uint8Array>
    }

/** True for a body of the type multipart/form-data. */
export function isForm(ctx: RouteContext): boolean {
  return /^multipart\/form-data\s*;/i.test(ctx.headers['content-type'] ?? '')
}

/**
 * Yields the parts of a `multipart/form-data` body as they arrive, buffering at most READ_AHEAD_BYTES.
 * Throws REQUEST_INVALID for a malformed or truncated body.
 */
export async function* formParts(ctx: RouteContext): AsyncGenerator<FormPart> {
  const form = new Form(ctx)
  try {
    for (;;) {
      const part = await form.next()
      if (part === undefined) return
      yield part
    }
  } finally {
    form.stop()
  }
}

type FileStream = NodeJS.ReadableStream & { destroy(error?: Error): void }

/** Turns the events of the parser into parts that are read one after the other. */
class Form {
  readonly #parser: BusboyInstance
  readonly #arrived: FormPart[] = []
  readonly #open = new Set<FileStream>()
  #current: FileStream | undefined
  #finished = false
  #failure: Error | undefined
  #wake = () => {}
  #stop = () => {}
  readonly #stopped = new Promise<void>((resolve) => {
    this.#stop = resolve
  })

  constructor(ctx: RouteContext) {
    this.#parser = parserFor(ctx)
    this.#parser.on('file', (name, stream, fileName) => this.#file(name, stream, fileName))
    this.#parser.on('field', (name, value, _nameCut, valueCut) => {
      if (valueCut) {
        const hint = 'send a file with -F NAME=@FILE'
        this.#fail(
          badRequest(`${describePart(name)} has more than ${VALUE_BYTES_MAX} bytes; ${hint}`),
        )
      }
      this.#arrive({ kind: 'value', name: String(name), value })
    })
    this.#parser.on('partsLimit', () =>
      this.#fail(badRequest(`the form has more than ${PARTS_MAX} parts`)),
    )
    this.#parser.on('finish', () => {
      this.#finished = true
      this.#wake()
    })
    this.#parser.on('error', (cause) => this.#fail(malformedForm(cause)))
    void this.#feed(ctx.state.body.bytes())
  }

  /** Undefined after the last part. */
  async next(): Promise<FormPart | undefined> {
    // The parser emits the next part only when the previous one is consumed.
    this.#current?.resume()
    this.#current = undefined
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure
      const part = this.#arrived.shift()
      if (part !== undefined) return part
      if (this.#finished) return undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Releases all streams; the rest of the body is not read. */
  stop(): void {
    this.#stop()
    for (const stream of this.#open) stream.destroy()
  }

  async #feed(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      for await (const chunk of chunks) {
        const written = new Promise<true>((resolve) => {
          this.#parser.write(chunk, () => resolve(true))
        })
        if ((await Promise.race([written, this.#stopped])) !== true) return
      }
      this.#parser.end()
    } catch (error) {
      this.#fail(error instanceof Error ? error : badRequest(String(error)))
    }
  }

  #file(name: unknown, stream: FileStream, fileName: unknown): void {
    // A reader gets the error from its iteration; without a reader the event must not go unhandled.
    stream.on('error', () => {})
    this.#open.add(stream)
    stream.on('close', () => this.#open.delete(stream))
    stream.on('end', () => this.#open.delete(stream))
    const bytes = this.#bytesOf(stream)
    const file = typeof fileName === 'string' && fileName !== '' ? fileName : undefined
    this.#arrive({ kind: 'file', name: String(name), fileName: file, bytes })
  }

  async *#bytesOf(stream: FileStream): AsyncGenerator<Uint8Array> {
    this.#current = stream
    try {
      for await (const chunk of stream) {
        yield typeof chunk === 'string' ? Buffer.from(chunk) : chunk
      }
    } catch (error) {
      throw this.#failure ?? malformedForm(error)
    }
    if (this.#failure !== undefined) throw this.#failure
  }

  #arrive(part: FormPart): void {
    this.#arrived.push(part)
    this.#wake()
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#stop()
    for (const stream of this.#open) stream.destroy(error)
    this.#wake()
  }
}

function parserFor(ctx: RouteContext): BusboyInstance {
  const contentType = ctx.headers['content-type']
  if (contentType === undefined || !isForm(ctx)) {
    throw badRequest('send a form: multipart/form-data, as curl -F does')
  }
  const config: BusboyConfig = {
    headers: { ...ctx.headers, 'content-type': contentType },
    fileHwm: READ_AHEAD_BYTES,
    isPartAFile: (_name, type, fileName) =>
      fileName !== undefined || type === 'application/octet-stream',
    limits: {
      parts: PARTS_MAX,
      fieldSize: VALUE_BYTES_MAX,
      headerPairs: PART_HEADERS_MAX,
      headerSize: PART_HEADER_BYTES_MAX,
    },
  }
  try {
    return new Busboy(config)
  } catch (cause) {
    throw badRequest('the Content-Type multipart/form-data must have a boundary', { cause })
  }
}

function describePart(name: unknown): string {
  return `part ${JSON.stringify(name)?.slice(0, 80)}`
}

function malformedForm(cause: unknown): RegistryError {
  return badRequest('the form is malformed or truncated: it must end with its boundary', { cause })
}
