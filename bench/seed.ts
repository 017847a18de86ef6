/** Pushes the content that a row needs: an image and blobs to pull, tags to list. */
import { Connection } from './connection.ts'
import { blobContent, imageContent, MIB, SEED_MARK } from './content.ts'
import { pushBlob, pushManifest } from './operations.ts'
import { LAYER_BYTES, type Row, TAGS_REPOSITORY } from './rows.ts'
import { PULL_REPOSITORY, type Server } from './servers.ts'

const TAG_CONNECTIONS = 8

async function pushSeedImage(connection: Connection, repository: string, credentials: string) {
  const layer = blobContent(LAYER_BYTES, SEED_MARK)
  const { config, manifest } = imageContent(layer)
  await pushBlob(connection, repository, layer, credentials)
  await pushBlob(connection, repository, config, credentials)
  await pushManifest(connection, repository, 'v1', manifest, credentials)
  return manifest
}

/** Pushes the content for the rows of one server, each once. */
export class Seeds {
  readonly #server: Server
  readonly #sizes = new Set<number>()
  #tags = 0

  constructor(server: Server) {
    this.#server = server
  }

  async prepare(row: Row): Promise<void> {
    if (row.tags) await this.#growTags(row.tags)
    else if (!row.writes) await this.#pushBlob(row.bytes || MIB)
  }

  async #pushBlob(bytes: number): Promise<void> {
    if (this.#sizes.has(bytes)) return
    const { origin, credentials } = this.#server
    const connection = await Connection.open(origin)
    try {
      const { isRegistry } = this.#server
      const first = this.#sizes.size === 0 && isRegistry
      if (first) await pushSeedImage(connection, PULL_REPOSITORY, credentials)
      if (bytes !== LAYER_BYTES || !isRegistry) {
        await pushBlob(connection, PULL_REPOSITORY, blobContent(bytes, SEED_MARK), credentials)
      }
    } finally {
      connection.close()
    }
    this.#sizes.add(bytes)
  }

  async #growTags(tags: number): Promise<void> {
    const { origin, credentials } = this.#server
    const each = async () => {
      const connection = await Connection.open(origin)
      try {
        while (this.#tags < tags) {
          const tag = `v0.${this.#tags++}`
          await pushManifest(connection, TAGS_REPOSITORY, tag, manifest, credentials)
        }
      } finally {
        connection.close()
      }
    }
    const { manifest } = imageContent(blobContent(LAYER_BYTES, SEED_MARK))
    if (this.#tags === 0) {
      const connection = await Connection.open(origin)
      await pushSeedImage(connection, TAGS_REPOSITORY, credentials)
      connection.close()
      this.#tags = 1
    }
    await Promise.all(Array.from({ length: TAG_CONNECTIONS }, each))
  }
}
