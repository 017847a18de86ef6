import { Busboy, type BusboyConfig, type BusboyInstance } from '@fastify/busboy'
import { badRequest, type RegistryError } from '../oci/errors.ts'
import type { RouteContext } from './route.ts'

// An image has ten parts at most; who sends more is mistaken, and hears which are known.
const PARTS_MAX = 32
const VALUE_BYTES_MAX = 4096
const PART_HEADERS_MAX = 32
const PART_HEADER_BYTES_MAX = 16 * 1024
const READ_AHEAD_BYTES = 256 * 1024

/** A part of a form: RFC 7578. A file's bytes must be read before the next part is asked for. */
export type FormPart =
  | { readonly kind: 'value'; readonly name: string; readonly value: string }
  | {
      readonly kind: 'file'
      readonly name: string
      /** Without folders; undefined when the client named none. */
      readonly fileName: string | undefined
      readonly bytes: AsyncIterable<Uint8Array>
    }

/** True for a body of parts. */
export function isForm(ctx: RouteContext): boolean {
  return /^multipart\/form-data\s*;/i.test(ctx.headers['content-type'] ?? '')
}

/**
 * The parts of a body `multipart/form-data`, as they come: nothing is gathered beyond a small read
 * ahead. Throws REQUEST_INVALID for what is no such body, or is cut off.
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

/** Feeds a parser that tells of parts by events, and hands these out one after the other. */
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
        const hint = 'a file is sent with -F NAME=@FILE'
        this.#fail(badRequest(`${shown(name)} has more than ${VALUE_BYTES_MAX} bytes; ${hint}`))
      }
      this.#arrive({ kind: 'value', name: String(name), value })
    })
    this.#parser.on('partsLimit', () =>
      this.#fail(badRequest(`there are more than ${PARTS_MAX} parts`)),
    )
    this.#parser.on('finish', () => {
      this.#finished = true
      this.#wake()
    })
    this.#parser.on('error', (cause) => this.#fail(malformed(cause)))
    void this.#feed(ctx.state.body.bytes())
  }

  /** Undefined after the last part. */
  async next(): Promise<FormPart | undefined> {
    // What nobody read of the part before stands in the way of the next.
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

  /** Lets go of everything; what is still to come is not read. */
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
    // Whoever reads it hears of an error; nobody may be reading.
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
      throw this.#failure ?? malformed(error)
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

function shown(name: unknown): string {
  return `part ${JSON.stringify(name)?.slice(0, 80)}`
}

function malformed(cause: unknown): RegistryError {
  return badRequest('the form is malformed or cut off: it must end with its boundary', { cause })
}
