import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type pg from 'pg'
import { expect } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { basic, type RawAnswer, RawClient } from '../support/raw-client.ts'
import {
  type Ledger,
  type OpenUpload,
  type Position,
  positionAfter,
} from './acknowledged-pushes.ts'
import { type KillableServer, PASSWORD } from './killable-server.ts'

/** How an upload that a crash interrupted could continue. */
export type Resumed = 'at once' | 'after the lease' | 'was finished' | 'had to start again'

/** Compares a restarted server with the acknowledgements that its clients received. */
export class Verifier {
  readonly #server: KillableServer
  readonly #db: pg.Client
  readonly #client: RawClient
  readonly #postgresDied: boolean
  readonly resumed: Resumed[] = []

  constructor(server: KillableServer, db: pg.Client, postgresDied = false) {
    this.#server = server
    this.#postgresDied = postgresDied
    this.#db = db
    this.#client = new RawClient(server.url)
  }

  close(): void {
    this.#client.close()
  }

  async verify(ledgers: readonly Ledger[]): Promise<void> {
    for (const ledger of ledgers) {
      await this.#settle(ledger)
      if (ledger.upload !== undefined) await this.#resume(ledger, ledger.upload)
      for (const digest of ledger.freshBlobs) await this.#verifyBlob(ledger, digest)
      ledger.freshBlobs.clear()
    }
    await this.#verifyRows()
    await this.#verifyFiles()
  }

  /** Reads everything that was ever acknowledged, byte by byte. */
  async verifyAll(ledgers: readonly Ledger[]): Promise<void> {
    for (const ledger of ledgers) {
      for (const digest of ledger.blobs.keys()) await this.#verifyBlob(ledger, digest)
      for (const [digest, { bytes, mediaType }] of ledger.position.manifests) {
        const answer = await this.#get(`/v2/${ledger.repository}/manifests/${digest}`)
        expect(answer.status).toBe(200)
        expect(answer.headers.get('content-type')).toBe(mediaType)
        expect(answer.body.equals(bytes)).toBe(true)
      }
      for (const digest of ledger.removed) {
        expect((await this.#get(`/v2/${ledger.repository}/manifests/${digest}`)).status).toBe(404)
      }
    }
  }

  /** The content is the acknowledged one, or that and the whole of the unanswered change. */
  async #settle(ledger: Ledger): Promise<void> {
    const { position, change, repository } = ledger
    const found = await this.#tags(repository)
    if (change === undefined) {
      expect(found, `tags of ${repository}`).toEqual(position.tags)
      return
    }
    const after = positionAfter(position, change)
    const happened = await this.#happened(repository, position, after)
    expect(found, `tags of ${repository} after ${JSON.stringify(change)}`).toEqual(
      happened ? after.tags : position.tags,
    )
    if (happened) ledger.acknowledgeChange()
    ledger.change = undefined
  }

  /** Decides by the manifest that the change puts or removes, or by the tag that it removes. */
  async #happened(repository: string, before: Position, after: Position): Promise<boolean> {
    for (const [digest, { bytes }] of [...before.manifests, ...after.manifests]) {
      if (before.manifests.has(digest) && after.manifests.has(digest)) continue
      const answer = await this.#get(`/v2/${repository}/manifests/${digest}`)
      expect([200, 404]).toContain(answer.status)
      if (answer.status === 200) expect(answer.body.equals(bytes)).toBe(true)
      return (answer.status === 200) === after.manifests.has(digest)
    }
    const found = await this.#tags(repository)
    return [...before.tags.keys()].some((tag) => !after.tags.has(tag) && !found.has(tag))
  }

  /** Returns every tag with its digest. */
  async #tags(repository: string): Promise<Map<string, string>> {
    const answer = await this.#get(`/v2/${repository}/tags/list`)
    if (answer.status === 404) return new Map()
    const { tags } = JSON.parse(answer.body.toString()) as { tags: string[] }
    const found = new Map<string, string>()
    for (const tag of tags) {
      const manifest = await this.#get(`/v2/${repository}/manifests/${tag}`)
      expect(manifest.status, `${tag} resolves`).toBe(200)
      found.set(tag, digestOf(manifest.body))
    }
    return found
  }

  async #verifyBlob(ledger: Ledger, digest: string): Promise<void> {
    const answer = await this.#get(`/v2/${ledger.repository}/blobs/${digest}`)
    expect(answer.status, `${ledger.repository} ${digest}`).toBe(200)
    expect(answer.body.equals(ledger.blobs.get(digest) ?? Buffer.alloc(0))).toBe(true)
  }

  /** Continues at the position of the status, as a client does. */
  async #resume(ledger: Ledger, upload: OpenUpload): Promise<void> {
    const { content } = upload
    const digest = digestOf(content)
    ledger.upload = undefined
    const blob = await this.#get(`/v2/${ledger.repository}/blobs/${digest}`)
    if (upload.closing && blob.status === 200) {
      ledger.acknowledgeBlob(digest, content)
      this.resumed.push('was finished')
      return
    }
    const status = await this.#get(upload.location)
    const { acknowledged, possible, closing } = upload
    if (status.status === 404 && acknowledged === 0 && this.#postgresDied) {
      // The 202 of a session without bytes does not wait for the disk of Postgres.
      this.resumed.push('had to start again')
      return
    }
    const state = `${acknowledged} bytes, perhaps ${possible}, closing: ${closing}`
    expect(status.status, `the upload with ${state}`).toBe(204)
    const size = receivedOf(status, upload)
    expect([acknowledged, possible]).toContain(size)

    const put = (from: number) =>
      this.#client.request({
        method: 'PUT',
        target: `${upload.location}?digest=${digest}`,
        headers: {
          Authorization: basic(PASSWORD),
          ...(from < content.length
            ? { 'Content-Range': `${from}-${content.length - 1}` }
            : { 'Content-Length': '0' }),
        },
        body: content.subarray(from),
      })
    // A server that was killed in its first moments had no lock yet: then its lease has to end.
    const leased = await this.#isLeasedWithoutLock(upload)
    if (leased) {
      expect((await put(size)).status).toBe(503)
      await this.#endLease(upload)
    }
    const answer = await put(size)
    if (upload.closing && answer.status === 404) {
      // The crash fell between moving the bytes into place and recording them.
      this.resumed.push('had to start again')
      return
    }
    expect(answer.status, answer.body.toString()).toBe(201)
    this.resumed.push(leased ? 'after the lease' : 'at once')
    ledger.acknowledgeBlob(digest, content)
  }

  async #isLeasedWithoutLock({ location }: OpenUpload): Promise<boolean> {
    const { rows } = await this.#db.query<{ leased: boolean }>(
      'select lease_until > now() and writer is null as leased from uploads where id = $1',
      [location.split('/').at(-1)],
    )
    return rows[0]?.leased === true
  }

  /** Lets the lease expire. */
  async #endLease({ location }: OpenUpload): Promise<void> {
    await this.#db.query(
      `update uploads set lease_until = now() - interval '1 second' where id = $1`,
      [location.split('/').at(-1)],
    )
  }

  /** Asserts that the blobs of each manifest are in its repository. */
  async #verifyRows(): Promise<void> {
    const { rows: manifests } = await this.#db.query<{ repository: string; bytes: Buffer }>(
      'select repository_id as repository, bytes from manifests',
    )
    const { rows: held } = await this.#db.query<{ repository: string; digest: string }>(
      `select rb.repository_id as repository, b.digest
         from repository_blobs rb
         join blobs b on b.id = rb.blob_id`,
    )
    const present = new Set(held.map(({ repository, digest }) => `${repository} ${digest}`))
    for (const { repository, bytes } of manifests) {
      const { config, layers = [] } = JSON.parse(bytes.toString())
      for (const { digest } of config === undefined ? [] : [config, ...layers]) {
        expect(present.has(`${repository} ${digest}`), `blob ${digest}`).toBe(true)
      }
    }
  }

  /** Asserts that every row has its bytes. */
  async #verifyFiles(): Promise<void> {
    const { rows } = await this.#db.query<{ key: string; size: string }>(
      'select storage_key as key, size from blobs',
    )
    for (const { key, size } of rows) {
      const file = await stat(join(this.#server.data, 'blobs', key))
      expect(file.size, key).toBe(Number(size))
    }
  }

  #get(target: string): Promise<RawAnswer> {
    return this.#client.request({
      method: 'GET',
      target,
      headers: { Authorization: basic(PASSWORD) },
    })
  }
}

/** `Range: 0-0` is ambiguous in the spec: nothing, or one byte. */
function receivedOf({ headers }: RawAnswer, { acknowledged, possible }: OpenUpload): number {
  const last = Number(/^0-(\d+)$/.exec(headers.get('range') ?? '')?.[1])
  return last === 0 && (acknowledged === 0 || possible === 0) ? 0 : last + 1
}
