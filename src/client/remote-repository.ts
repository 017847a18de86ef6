import { type Digest, digestOf } from '../oci/digest.ts'
import { MANIFEST_BYTES_MAX, parseManifest } from '../oci/manifest.ts'
import {
  DOCKER_MANIFEST,
  DOCKER_MANIFEST_LIST,
  IMAGE_INDEX,
  IMAGE_MANIFEST,
} from '../oci/media-type.ts'
import type { Repository, Tag } from '../oci/reference.ts'
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
  readonly login?: Login | undefined
  /** Requested scope. */
  readonly actions: 'pull' | 'pull,push' | 'pull,delete'
  readonly onWait?: OnWait
}

/** A manifest as a registry serves it. */
export type RemoteManifest = {
  readonly bytes: Buffer
  readonly mediaType: string | undefined
  readonly digest: Digest
}

/** The answer of a registry that stored a manifest. */
export type StoredManifest = {
  /** The id of the build that it recorded, if it records builds. */
  readonly build: string | undefined
  /** The path of the deployment to the hosts that follow the tag, if any does (RFC 5989, section 4: the link `monitor`). */
  readonly deployment: string | undefined
}

const MANIFEST_TYPES = [IMAGE_MANIFEST, IMAGE_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST].join()
const MONITOR = /<([^>]*)>; rel="monitor"/
const OCTETS = 'application/octet-stream'
/** The names of all tags of a manifest, of at most 128 characters each. */
const REMOVAL_ANSWER_BYTES_MAX = 16 * 1024 * 1024

/**
 * A repository of any registry that implements the OCI distribution specification. Every operation is
 * retried after transient failures, and throws RegistryResponseError or RegistryUnreachableError.
 */
export class RemoteRepository {
  readonly #session: AuthorizedSession
  readonly #name: Repository
  readonly #onWait: OnWait | undefined

  constructor(address: RegistryAddress, name: Repository, options: RepositoryOptions) {
    const { login, actions, onWait } = options
    this.#name = name
    this.#onWait = onWait
    const scope = `repository:${name}:${actions}`
    this.#session = new AuthorizedSession(address, login, scope, options)
  }

  close(): Promise<void> {
    return this.#session.close()
  }

  /** end-2: true when the repository has the blob. */
  hasBlob(digest: Digest): Promise<boolean> {
    return this.#retry(() => this.#hasBlob(digest))
  }

  /**
   * end-4a and end-6: uploads a blob in one piece, from its beginning at each attempt. False when the
   * repository had it already.
   */
  putBlob(digest: Digest, subject: string, body: Body): Promise<boolean> {
    let sent = false
    return this.#retry(async () => {
      // An earlier attempt may have succeeded and lost its response.
      if (await this.#hasBlob(digest)) return sent
      const url = this.#url('blobs/uploads/')
      const begun = await this.#session.request({ method: 'POST', url, subject, body: NOTHING })
      await discardBody(begun)
      const at = this.#session.locationOf(begun, subject)
      at.search = `${at.search === '' ? '?' : `${at.search}&`}digest=${digest}`
      sent = true
      const done = await this.#session.request({
        method: 'PUT',
        url: at,
        subject,
        headers: { 'content-type': OCTETS },
        body,
        transfer: true,
      })
      await discardBody(done)
      return true
    })
  }

  /**
   * end-7: puts a manifest under a reference, and verifies the digest in the response. `buildId` is the UUID of its
   * build, of which a repeated push makes no second one.
   */
  putManifest(
    reference: string,
    mediaType: string,
    bytes: Uint8Array,
    digest: Digest,
    buildId?: string,
  ): Promise<StoredManifest> {
    const subject = `the manifest ${reference}`
    return this.#retry(async () => {
      const response = await this.#session.request({
        method: 'PUT',
        url: this.#url(`manifests/${reference}`),
        subject,
        headers: {
          'content-type': mediaType,
          ...(buildId === undefined ? {} : { 'rookery-build': buildId }),
        },
        body: { size: bytes.length, open: () => bytes },
      })
      await discardBody(response)
      const found = response.header('docker-content-digest')
      if (found !== undefined && found !== digest) throw this.#mismatch(subject, digest, found)
      return {
        build: response.header('rookery-build'),
        deployment: MONITOR.exec(response.header('link') ?? '')?.[1],
      }
    })
  }

  /** end-3: finds the manifest of a tag or a digest, and verifies it. */
  findManifest(reference: string): Promise<RemoteManifest | undefined> {
    const subject = `the manifest ${reference}`
    return this.#retry(async () => {
      const response = await this.#session.request({
        method: 'GET',
        url: this.#url(`manifests/${reference}`),
        subject,
        headers: { accept: MANIFEST_TYPES },
        accept: [404],
      })
      if (response.status === 404) {
        await discardBody(response)
        return undefined
      }
      const bytes = await this.#readBody(response, MANIFEST_BYTES_MAX)
      const digest = digestOf(bytes, reference.startsWith('sha512:') ? 'sha512' : 'sha256')
      if (reference.includes(':') && reference !== digest)
        throw this.#mismatch(subject, reference, digest)
      return { bytes, digest, mediaType: response.header('content-type') }
    })
  }

  /** end-12a: lists the referrers of a manifest with an artifact type, one page. Empty where a registry has no such list. */
  listReferrers(digest: Digest, artifactType: string): Promise<Digest[]> {
    const subject = `the referrers of ${digest}`
    return this.#retry(async () => {
      const url = this.#url(`referrers/${digest}`)
      url.searchParams.set('artifactType', artifactType)
      const response = await this.#session.request({ method: 'GET', url, subject, accept: [404] })
      if (response.status === 404) {
        await discardBody(response)
        return []
      }
      const bytes = await this.#readBody(response, MANIFEST_BYTES_MAX)
      const { children } = parseManifest(bytes, response.header('content-type'))
      return children.map((child) => child.digest)
    })
  }

  /**
   * end-9: deletes a tag, or a manifest with all of its tags. With `expected`, a tag must have this digest. Attempted once,
   * because a failed deletion may have been made. Returns the body of the response, which is the registry's own.
   */
  async remove(reference: Tag | Digest, expected: Digest | undefined): Promise<string> {
    const response = await this.#session.request({
      method: 'DELETE',
      url: this.#url(`manifests/${reference}`),
      subject: `the deletion of ${reference}`,
      headers: expected === undefined ? {} : { 'if-match': `"${expected}"` },
    })
    return (await this.#readBody(response, REMOVAL_ANSWER_BYTES_MAX)).toString()
  }

  /**
   * end-2 with a range: bytes from `start` to `end`, both inclusive. From a registry without ranges the
   * blob is read from its beginning up to `end`.
   */
  readRange(digest: Digest, start: number, end: number): Promise<Buffer> {
    const subject = `bytes ${start} to ${end} of the blob ${digest}`
    return this.#retry(async () => {
      const response = await this.#session.request({
        method: 'GET',
        url: this.#url(`blobs/${digest}`),
        subject,
        headers: { range: `bytes=${start}-${end}` },
        transfer: true,
      })
      const found = await bytesOf(response, response.status === 206 ? 0 : start, end - start + 1)
      if (found.length !== end - start + 1) {
        throw new RegistryUnreachableError(
          `${this.#host} sent ${found.length} bytes instead of ${subject}`,
          true,
        )
      }
      return found
    })
  }

  /** end-2: streams a blob. Its digest is not verified: hash it. */
  async openBlob(digest: Digest): Promise<AsyncIterable<Buffer>> {
    const response = await this.#retry(() =>
      this.#session.request({
        method: 'GET',
        url: this.#url(`blobs/${digest}`),
        subject: `the blob ${digest}`,
        transfer: true,
      }),
    )
    return chunksOf(response)
  }

  async #hasBlob(digest: Digest): Promise<boolean> {
    const response = await this.#session.request({
      method: 'HEAD',
      url: this.#url(`blobs/${digest}`),
      subject: `a check for the blob ${digest}`,
      accept: [404],
    })
    await discardBody(response)
    return response.status === 200
  }

  get #host(): string {
    return this.#session.address.host
  }

  #url(path: string): URL {
    return this.#session.url(`/v2/${this.#name}/${path}`)
  }

  #retry<T>(work: () => Promise<T>): Promise<T> {
    return withRetries(work, this.#onWait)
  }

  async #readBody(response: HttpResponse, bytesMax: number): Promise<Buffer> {
    try {
      return await readBody(response, bytesMax)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw new RegistryResponseError(error.message, { status: response.status })
    }
  }

  #mismatch(subject: string, right: string, found: string): RegistryResponseError {
    return new RegistryResponseError(
      `${this.#host} has other bytes: ${subject} must have the digest ${right}, but has ${found.slice(0, 160)}`,
      { status: 200 },
    )
  }
}

const NOTHING: Body = { size: 0, open: () => new Uint8Array(0) }

/** Reads `length` bytes after the first `skipped`, and leaves the rest. */
async function bytesOf(response: HttpResponse, skipped: number, length: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let [before, left] = [skipped, length]
  for await (const chunk of chunksOf(response)) {
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
