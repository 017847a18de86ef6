import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { afterEach, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { eventually } from '../support/eventually.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { basic } from '../support/raw-client.ts'
import { KillableServer, PASSWORD } from './killable-server.ts'

const READERS = 8
const ROUNDS = 20
const CALM_MILLISECONDS = 120
const PATH = '/v2/moving/tag/manifests/now'
const EMPTY = Buffer.from('{}')
const HEADERS = { authorization: basic(PASSWORD) }

let server: KillableServer
afterEach(() => server.dispose())

async function push(reference: string, bytes: Buffer): Promise<number | undefined> {
  const answer = await fetch(`${server.url}/v2/moving/tag/manifests/${reference}`, {
    method: 'PUT',
    headers: { ...HEADERS, 'content-type': IMAGE_MANIFEST },
    body: new Uint8Array(bytes),
  }).catch(() => undefined)
  await answer?.arrayBuffer()
  return answer?.status
}

function image(): Buffer {
  const descriptor = {
    mediaType: 'application/vnd.oci.empty.v1+json',
    digest: digestOf(EMPTY),
    size: EMPTY.length,
  }
  const annotations = { unique: randomBytes(8).toString('hex') }
  return Buffer.from(
    JSON.stringify({
      ...{ schemaVersion: 2, mediaType: IMAGE_MANIFEST, config: descriptor, layers: [] },
      annotations,
    }),
  )
}

/** Moves the tag by a statement of another program than the server. */
async function moveBySql(client: pg.Client, digest: string): Promise<void> {
  await client.query(`update tags set digest = $1 where name = 'now'`, [digest])
}

it.each(['one process', 'two workers'])(
  'a pull never has an older answer than the last acknowledged change of a server of %s, also when it or Postgres is killed',
  async (processes) => {
    const workers = processes === 'one process' ? '1' : '2'
    server = await KillableServer.create('embedded', { ROOKERY_WORKERS: workers })
    await server.start()
    const target = `${server.url}/v2/moving/tag/blobs/uploads/?digest=${digestOf(EMPTY)}`
    const blob = await fetch(target, { method: 'POST', headers: HEADERS, body: EMPTY })
    expect(blob.status).toBe(201)
    const images = Array.from({ length: ROUNDS }, image)
    const positions = new Map(images.map((bytes, index) => [digestOf(bytes), index]))
    for (const bytes of images) expect(await push(digestOf(bytes), bytes)).toBe(201)
    expect(await push('now', images[0] as Buffer)).toBe(201)

    let acknowledged = 0
    let isOpen = true
    const old: string[] = []
    const readers = Array.from({ length: READERS }, async () => {
      while (isOpen) {
        const atLeast = acknowledged
        // A server that was killed answers nothing.
        const answer = await fetch(`${server.url}${PATH}`, { method: 'HEAD' }).catch(
          () => undefined,
        )
        if (answer?.status !== 200) {
          await delay(20)
          continue
        }
        const position = positions.get(answer.headers.get('docker-content-digest') ?? '') ?? -1
        if (position < atLeast) old.push(`${position} < ${atLeast}`)
      }
    })
    let client = await server.database()
    client.on('error', () => {})
    const held = `select count(*)::int as held from remembered_answers where held`
    await expect.poll(async () => (await client.query(held)).rows[0].held).toBe(Number(workers))
    for (let round = 1; round < ROUNDS; round += 1) {
      const bytes = images[round] as Buffer
      if (round % 6 === 5) {
        await moveBySql(client, digestOf(bytes))
      } else {
        // A push that failed may have moved the tag: it is repeated until it is acknowledged.
        await expect.poll(() => push('now', bytes)).toBe(201)
      }
      acknowledged = round
      await delay(CALM_MILLISECONDS)
      if (round === 8) {
        // Postgres ends all other connections, and recovers.
        const { rows } = await client.query<{ pid: number }>(
          `select pid from pg_stat_activity where application_name = 'rookery' limit 1`,
        )
        process.kill(Number(rows[0]?.pid), 'SIGKILL')
      } else if (round === 16) {
        server.signal('SIGKILL')
        await server.ended()
        await server.start()
      } else continue
      await client.end().catch(() => {})
      client = await reconnected()
    }
    isOpen = false
    await Promise.all(readers)
    await client.end()
    expect(old).toEqual([])
  },
)

function reconnected(): Promise<pg.Client> {
  return eventually(async () => {
    const client = await server.database()
    client.on('error', () => {})
    return client
  })
}
