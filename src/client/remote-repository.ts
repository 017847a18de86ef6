import { type Digest, digestOf } from '../oci/digest.ts'
import { MANIFEST_BYTES_MAX } from '../oci/manifest.ts'
import {
  DOCKER_MANIFEST,
  DOCKER_MANIFEST_LIST,
  IMAGE_INDEX,
  IMAGE_MANIFEST,
} from '../oci/media-type.ts'
import type { Repository } from '../oci/reference.ts'
import { AuthorizedSession } from './authorized-session.ts'
import { RegistryResponseError, RegistryUnreachableError, unreachableError } from './errors.ts'
import type { RegistryAddress } from './image-reference.ts'
import type { Login } from './login.ts'
import { type OnWait, withRetries } from './retry.ts'
import {
  type Body,
  discardBody,
  type HttpResponse,
  readBody,
  type TransportOptions,
} from './transport.ts'

export type RepositoryOptions = TransportOptions & {
  readonly credential?: Login | undefined
  /** What is asked for: `pull`, or `pull,push`. */
  readonly actions: 'pull' | 'pull,push'
  readonly onWait?: OnWait
}

/** A manifest as a registry serves it. */
export type RemoteManifest = {
  readonly bytes: Buffer
  readonly mediaType: string | undefined
  readonly digest: Digest
}

const MANIFEST_TYPES = [IMAGE_MANIFEST, IMAGE_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST].join()
const OCTETS = 'application/octet-stream'

/**
 * A repository of any registry that speaks the OCI distribution specification. Every operation is
 * tried again after passing failures, and throws RegistryResponseError or RegistryUnreachableError.
 */
export class RemoteRepository {
  readonly #exchange: AuthorizedSession
  readonly #name: Repository
  readonly #onWait: OnWait | undefined

  constructor(place: RegistryAddress, name: Repository, options: RepositoryOptions) {
    const { credential, actions, onWait } = options
    this.#name = name
    this.#onWait = onWait
    const scope = `repository:${name}:${actions}`
    this.#exchange = new AuthorizedSession(place, credential, scope, options)
  }

  close(): Promise<void> {
    return this.#exchange.close()
  }

  /** end-2: true when the repository has it. */
  hasBlob(digest: Digest): Promise<boolean> {
    return this.#again(() => this.#hasBlob(digest))
  }

  /**
   * end-4a and end-6: brings a blob there in one piece, from its beginning at each attempt. False
   * when it was there already.
   */
  putBlob(digest: Digest, what: string, body: Body): Promise<boolean> {
    let sent = false
    return this.#again(async () => {
      // An attempt whose answer was lost may have brought it.
      if (await this.#hasBlob(digest)) return sent
      const url = this.#url('blobs/uploads/')
      const begun = await this.#exchange.request({ method: 'POST', url, what, body: NOTHING })
      await discardBody(begun)
      const at = this.#exchange.locationOf(begun, what)
      at.search = `${at.search === '' ? '?' : `${at.search}&`}digest=${digest}`
      sent = true
      const done = await this.#exchange.request({
        method: 'PUT',
        url: at,
        what,
        headers: { 'content-type': OCTETS },
        body,
        transfer: true,
      })
      await discardBody(done)
      return true
    })
  }

  /** end-7: stores a manifest under a reference, and checks that the registry calls it the same. */
  putManifest(
    reference: string,
    mediaType: string,
    bytes: Uint8Array,
    digest: Digest,
  ): Promise<void> {
    const what = `the manifest ${reference}`
    return this.#again(async () => {
      const answer = await this.#exchange.request({
        method: 'PUT',
        url: this.#url(`manifests/${reference}`),
        what,
        headers: { 'content-type': mediaType },
        body: { size: bytes.length, open: () => bytes },
      })
      await discardBody(answer)
      const said = answer.header('docker-content-digest')
      if (said !== undefined && said !== digest) throw this.#other(what, digest, said)
    })
  }

  /** end-3: the manifest of a tag or a digest, checked; undefined when there is none. */
  findManifest(reference: string): Promise<RemoteManifest | undefined> {
    const what = `the manifest ${reference}`
    return this.#again(async () => {
      const answer = await this.#exchange.request({
        method: 'GET',
        url: this.#url(`manifests/${reference}`),
        what,
        headers: { accept: MANIFEST_TYPES },
        accept: [404],
      })
      if (answer.status === 404) {
        await discardBody(answer)
        return undefined
      }
      const bytes = await this.#whole(answer, MANIFEST_BYTES_MAX)
      const digest = digestOf(bytes, reference.startsWith('sha512:') ? 'sha512' : 'sha256')
      if (reference.includes(':') && reference !== digest)
        throw this.#other(what, reference, digest)
      return { bytes, digest, mediaType: answer.header('content-type') }
    })
  }

  /**
   * end-2 with a range: bytes from `start` to `end`, both counted. A registry that knows no ranges is
   * read from the beginning, as far as it must.
   */
  readRange(digest: Digest, start: number, end: number): Promise<Buffer> {
    const what = `bytes ${start} to ${end} of the blob ${digest}`
    return this.#again(async () => {
      const answer = await this.#exchange.request({
        method: 'GET',
        url: this.#url(`blobs/${digest}`),
        what,
        headers: { range: `bytes=${start}-${end}` },
        transfer: true,
      })
      const found = await bytesOf(answer, answer.status === 206 ? 0 : start, end - start + 1)
      if (found.length !== end - start + 1) {
        throw new RegistryUnreachableError(
          `${this.#host} sent ${found.length} bytes instead of ${what}`,
          true,
        )
      }
      return found
    })
  }

  /** end-2: everything, as it comes. Read to the end, it may still be another blob: hash it. */
  async openBlob(digest: Digest): Promise<AsyncIterable<Buffer>> {
    const answer = await this.#again(() =>
      this.#exchange.request({
        method: 'GET',
        url: this.#url(`blobs/${digest}`),
        what: `the blob ${digest}`,
        transfer: true,
      }),
    )
    return chunksOf(answer)
  }

  async #hasBlob(digest: Digest): Promise<boolean> {
    const answer = await this.#exchange.request({
      method: 'HEAD',
      url: this.#url(`blobs/${digest}`),
      what: `a look for the blob ${digest}`,
      accept: [404],
    })
    await discardBody(answer)
    return answer.status === 200
  }

  get #host(): string {
    return this.#exchange.address.host
  }

  #url(path: string): URL {
    return this.#exchange.url(`/v2/${this.#name}/${path}`)
  }

  #again<T>(work: () => Promise<T>): Promise<T> {
    return withRetries(work, this.#onWait)
  }

  async #whole(answer: HttpResponse, bytesMax: number): Promise<Buffer> {
    try {
      return await readBody(answer, bytesMax)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw new RegistryResponseError(error.message, { status: answer.status })
    }
  }

  #other(what: string, right: string, found: string): RegistryResponseError {
    return new RegistryResponseError(
      `${this.#host} has other bytes: ${what} should have the digest ${right}, and has ${found.slice(0, 160)}`,
      { status: 200 },
    )
  }
}

const NOTHING: Body = { size: 0, open: () => new Uint8Array(0) }

/** So many bytes behind those that are passed over; the rest is left. */
async function bytesOf(answer: HttpResponse, passed: number, wanted: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let [before, left] = [passed, wanted]
  for await (const chunk of chunksOf(answer)) {
    const bytes = chunk.subarray(before, before + left)
    before -= Math.min(before, chunk.length)
    chunks.push(bytes)
    left -= bytes.length
    if (left === 0) break
  }
  return Buffer.concat(chunks)
}

async function* chunksOf({ url, body }: HttpResponse): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of body) yield Buffer.from(chunk)
  } catch (error) {
    throw unreachableError(url, error, true)
  }
}
