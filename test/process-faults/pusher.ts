import { randomBytes } from 'node:crypto'
import { digestOf } from '../support/digest.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { basic, RawConnection, type RawRequest, requestBytes } from '../support/raw-client.ts'
import {
  type Change,
  keptByTags,
  type Ledger,
  type Manifest,
  type OpenUpload,
} from './acknowledged-pushes.ts'
import { PASSWORD } from './killable-server.ts'

/** Every moment of a push at which the process may die. */
export const POINTS = [
  'POST sent',
  'POST 202',
  'in PATCH body',
  'PATCH sent',
  'PATCH 202',
  'in PUT body',
  'PUT sent',
  'PUT 201',
  'in single POST body',
  'single POST sent',
  'single POST 201',
  'mount sent',
  'mount 201',
  'manifest sent',
  'manifest 201',
  'tag delete sent',
  'tag delete 202',
  'manifest delete sent',
  'manifest delete 202',
] as const

export type Point = (typeof POINTS)[number]

export type Reached = (point: Point) => Promise<void> | void

/** The points of one request: in the middle of its body, after its last byte, after its answer. */
type Points = { readonly body?: Point; readonly sent: Point; readonly answered: Point }

const BLOB_BYTES_MAX = 200_000
const TAGS = 6
// No answer comes after a refused connection, or one that ended.
const ANSWER_MILLISECONDS_MAX = 10_000

/** A client that pushes, and records every acknowledgement in its ledger. */
export class Pusher {
  readonly #url: string
  readonly #ledger: Ledger
  readonly #others: readonly Ledger[]
  readonly #random: () => number
  readonly #reached: Reached
  #connection: RawConnection | undefined

  constructor(
    url: string,
    ledger: Ledger,
    others: readonly Ledger[],
    random: () => number,
    reached: Reached = () => {},
  ) {
    this.#url = url
    this.#ledger = ledger
    this.#others = others
    this.#random = random
    this.#reached = reached
  }

  close(): void {
    this.#connection?.close()
  }

  /** Runs one random operation. Throws when the server dies. */
  async step(): Promise<void> {
    const { manifests, tags } = this.#ledger.position
    const kind = Math.floor(this.#random() * 10)
    if (kind === 0) return this.pushSingle()
    if (kind === 1) return this.pushChunks(1 + Math.floor(this.#random() * 3))
    if (kind === 2) return this.pushChunks(0)
    if (kind === 3) return this.mount()
    if (kind === 4 && tags.size > 0) return this.removeTag()
    if (kind === 5 && manifests.size > 3) return this.removeManifest()
    if (kind === 6 && manifests.size > 1) return this.pushIndex()
    if (kind === 7) return this.pushImage([])
    return this.pushImage(this.#someTags())
  }

  /** Sends every kind of request once, so that every point is reached. */
  async everything(): Promise<void> {
    await this.pushSingle()
    await this.pushChunks(2)
    await this.pushChunks(0)
    await this.mount()
    await this.pushImage(this.#someTags())
    await this.pushImage([])
    await this.pushIndex()
    await this.removeTag()
    await this.pushImage(this.#someTags())
    await this.removeManifest()
  }

  async pushSingle(): Promise<void> {
    const content = this.#content()
    const digest = digestOf(content)
    const answer = await this.#ask(
      { method: 'POST', target: `${this.#uploads()}?digest=${digest}`, body: content },
      { body: 'in single POST body', sent: 'single POST sent', answered: 'single POST 201' },
      201,
      () => this.#ledger.acknowledgeBlob(digest, content),
    )
    if (answer.headers.get('docker-content-digest') !== digest) throw new Error('another digest')
  }

  /** Sends a POST, `chunks` PATCH requests, and a PUT with the rest. */
  async pushChunks(chunks: number): Promise<void> {
    const content = this.#content()
    const { headers } = await this.#ask(
      { method: 'POST', target: this.#uploads() },
      { sent: 'POST sent', answered: 'POST 202' },
      202,
      ({ headers }) => {
        const location = headers.get('location') ?? ''
        this.#ledger.upload = {
          ...{ location, content },
          ...{ acknowledged: 0, possible: 0, closing: false },
        }
      },
    )
    const location = headers.get('location') ?? ''
    const upload = this.#ledger.upload as OpenUpload
    for (let chunk = 1; chunk <= chunks; chunk += 1) {
      const from = upload.acknowledged
      const to = Math.floor((content.length * chunk) / (chunks + 1))
      upload.possible = to
      await this.#ask(
        {
          method: 'PATCH',
          target: location,
          headers: { 'Content-Range': `${from}-${to - 1}` },
          body: content.subarray(from, to),
        },
        { body: 'in PATCH body', sent: 'PATCH sent', answered: 'PATCH 202' },
        202,
        () => {
          upload.acknowledged = to
        },
      )
    }
    const digest = digestOf(content)
    upload.closing = true
    await this.#ask(
      {
        method: 'PUT',
        target: `${location}?digest=${digest}`,
        body: content.subarray(upload.acknowledged),
      },
      { body: 'in PUT body', sent: 'PUT sent', answered: 'PUT 201' },
      201,
      () => {
        this.#ledger.acknowledgeBlob(digest, content)
        this.#ledger.upload = undefined
      },
    )
  }

  async mount(): Promise<void> {
    const source = this.#others[Math.floor(this.#random() * this.#others.length)]
    const [digest, content] = source === undefined ? [] : this.#pick(source.blobs)
    if (source === undefined || digest === undefined || content === undefined) return
    await this.#ask(
      {
        method: 'POST',
        target: `${this.#uploads()}?mount=${digest}&from=${source.repository}`,
      },
      { sent: 'mount sent', answered: 'mount 201' },
      201,
      () => this.#ledger.acknowledgeBlob(digest, content),
    )
  }

  async pushImage(tags: readonly string[]): Promise<void> {
    const { blobs } = this.#ledger
    if (blobs.size === 0) await this.pushSingle()
    const layers = [this.#pick(blobs), this.#pick(blobs)].map(([digest, content]) => ({
      mediaType: 'application/octet-stream',
      digest,
      size: content?.length,
    }))
    await this.#putManifest(IMAGE_MANIFEST, { config: layers[0], layers }, tags)
  }

  async pushIndex(): Promise<void> {
    const manifests = [...this.#ledger.position.manifests]
      .slice(-2)
      .map(([digest, { bytes, mediaType }]) => ({ mediaType, digest, size: bytes.length }))
    await this.#putManifest(IMAGE_INDEX, { manifests }, this.#someTags())
  }

  async removeTag(): Promise<void> {
    const [tag = 'none'] = this.#pick(this.#ledger.position.tags)
    await this.#change(
      { kind: 'remove tag', tag },
      { method: 'DELETE', target: `/v2/${this.#ledger.repository}/manifests/${tag}` },
      { sent: 'tag delete sent', answered: 'tag delete 202' },
      202,
    )
  }

  async removeManifest(): Promise<void> {
    const { manifests } = this.#ledger.position
    const kept = keptByTags(this.#ledger.position)
    const [digest] = this.#pick(new Map([...manifests].filter(([one]) => !kept.has(one))))
    if (digest === undefined) return
    await this.#change(
      { kind: 'remove manifest', digest },
      { method: 'DELETE', target: `/v2/${this.#ledger.repository}/manifests/${digest}` },
      { sent: 'manifest delete sent', answered: 'manifest delete 202' },
      202,
    )
  }

  /** Pushes by tag with more tags in the query, by digest with tags, or by digest alone. */
  async #putManifest(mediaType: string, fields: object, tags: readonly string[]): Promise<void> {
    const annotations = { 'org.example.unique': randomBytes(8).toString('hex') }
    const body = { schemaVersion: 2, mediaType, ...fields, annotations }
    const bytes = Buffer.from(JSON.stringify(body))
    const manifest: Manifest = { bytes, mediaType }
    const digest = digestOf(bytes)
    const byTag = tags.length > 0 && this.#random() < 0.5
    const reference = byTag ? tags[0] : digest
    const query = tags.slice(byTag ? 1 : 0).map((tag) => `tag=${tag}`)
    const target = `/v2/${this.#ledger.repository}/manifests/${reference}?${query.join('&')}`
    await this.#change(
      { kind: 'put', digest, manifest, tags },
      { method: 'PUT', target, headers: { 'Content-Type': mediaType }, body: bytes },
      { sent: 'manifest sent', answered: 'manifest 201' },
      201,
    )
  }

  async #change(change: Change, request: RawRequest, points: Points, status: number) {
    this.#ledger.change = change
    await this.#ask(request, points, status, () => this.#ledger.acknowledgeChange())
  }

  async #ask(
    request: RawRequest,
    points: Points,
    status: number,
    acknowledged: (answer: { headers: ReadonlyMap<string, string> }) => void,
  ) {
    if (!this.#connection?.usable) this.#connection = await RawConnection.open(this.#url)
    const connection = this.#connection
    const headers = { Authorization: basic(PASSWORD), ...request.headers }
    const bytes = requestBytes({ ...request, headers })
    const half = bytes.length - Math.floor((request.body?.length ?? 0) / 2)
    await connection.send(bytes.subarray(0, half))
    if (points.body !== undefined) await this.#reached(points.body)
    await connection.send(bytes.subarray(half))
    const answering = connection.answer(request.method, ANSWER_MILLISECONDS_MAX)
    answering.catch(() => {})
    await this.#reached(points.sent)
    const answer = await answering
    if (answer.status !== status) throw new UnexpectedAnswerError(request, answer)
    acknowledged(answer)
    await this.#reached(points.answered)
    return answer
  }

  #uploads(): string {
    return `/v2/${this.#ledger.repository}/blobs/uploads/`
  }

  #content(): Buffer {
    return randomBytes(1 + Math.floor(this.#random() * BLOB_BYTES_MAX))
  }

  #someTags(): string[] {
    const tags = Array.from({ length: TAGS }, (_, index) => `tag-${index}`)
    const from = Math.floor(this.#random() * TAGS)
    const count = 1 + Math.floor(this.#random() * 3)
    return [...tags.slice(from), ...tags].slice(0, count)
  }

  #pick<Value>(map: ReadonlyMap<string, Value>): [string?, Value?] {
    return [...map][Math.floor(this.#random() * map.size)] ?? []
  }
}

/** A running server sent an answer that it must not send. */
export class UnexpectedAnswerError extends Error {
  override readonly name = 'UnexpectedAnswerError'

  constructor({ method, target }: RawRequest, answer: { status: number; body: Buffer }) {
    super(`${method} ${target} was answered ${answer.status}: ${answer.body.toString()}`)
  }
}
