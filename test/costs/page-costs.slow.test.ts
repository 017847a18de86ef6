import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { pushBuild } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { countPages, recordStatements, statementsOf } from './statements.ts'

const REPOSITORY = 'mine/www'
const TAG = 'v1'
/** Tags, each of an image of its own. A page shows at most 60 of them. */
const [TEN, FEW, MANY] = [10, 1_000, 100_000]
/** An index of MANY rows has a level more than one of FEW, and a row of a page is found by two or three indexes. */
const FACTOR = 1.5
const LEVELS = 100
/** Database pages that any of them reads. */
const READ_MAX = 500

const PAGES = [
  '/',
  '/repositories',
  `/r/${REPOSITORY}`,
  `/r/${REPOSITORY}/-/tags`,
  `/r/${REPOSITORY}/-/tags/${TAG}`,
  `/r/${REPOSITORY}/-/images`,
]

let registry: TestRegistry
let client: pg.Client

beforeAll(async () => {
  registry = await startRegistry()
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
  await pushBuild(registry, REPOSITORY, TAG, 'hello-key-1')
  recordStatements()
})

afterAll(async () => {
  vi.restoreAllMocks()
  await client.end()
  await registry.close()
})

const DIGEST = `'sha256:' || encode(sha256(convert_to(n::text, 'utf8')), 'hex')`
const IMAGES_AT_ONCE = 10_000

/** Adds images with a tag each, as pushes do, from the number `from` up to `to`. TAG moves to each of them. */
async function grow(from: number, to: number): Promise<void> {
  for (let first = from; first < to; first += IMAGES_AT_ONCE) {
    const numbers = [first, Math.min(first + IMAGES_AT_ONCE, to) - 1]
    const sample = `select i.*
                      from images i
                      join repositories r on r.id = i.repository_id and r.name = '${REPOSITORY}'
                     order by i.manifest_id
                     limit 1`
    await client.query(
      `with sample as (${sample}), added as (
         insert into manifests (repository_id, digest, media_type, bytes, pushed_by)
         select repository_id, ${DIGEST}, 'application/vnd.oci.image.manifest.v1+json', '{}', 'admin'
           from sample, generate_series($1::int, $2::int) as n
         returning id, repository_id
       ), images_added as (
         insert into images (manifest_id, repository_id, kernel_digest, target, abi_version, devices, input_id)
         select a.id, a.repository_id, s.kernel_digest, s.target, s.abi_version, s.devices, s.input_id
           from added a, sample s
       )
       insert into image_layers (manifest_id, blob_id, role)
       select a.id, l.blob_id, l.role
         from added a, sample s
         join image_layers l on l.manifest_id = s.manifest_id and l.role = 'opam-switch'`,
      numbers,
    )
    await client.query(
      `with sample as (${sample}), tags_added as (
         insert into tags (repository_id, name, digest)
         select repository_id, 't' || n, ${DIGEST}
           from sample, generate_series($1::int, $2::int) as n
       )
       insert into tag_history (repository_id, tag, digest, actor, reason)
       select repository_id, tag, ${DIGEST}, 'admin', 'push'
         from sample, generate_series($1::int, $2::int) as n, unnest(array['${TAG}', 't' || n]) as tag`,
      numbers,
    )
  }
  await client.query('vacuum (analyze)')
}

type Cost = { readonly read: number; readonly bytes: number }

/** The database pages that each page of PAGES reads, and its bytes. */
async function costs(): Promise<Map<string, Cost>> {
  const found = new Map<string, Cost>()
  for (const path of PAGES) {
    let bytes = 0
    const sent = await statementsOf(async () => {
      const answer = await registry.request(path)
      expect([path, answer.status]).toEqual([path, 200])
      bytes = (await answer.arrayBuffer()).byteLength
    })
    let read = 0
    for (const statement of sent) read += await countPages(client, statement)
    found.set(path, { read, bytes })
  }
  return found
}

describe('a page over 100 000 tags', () => {
  it('costs what one over a thousand does', async () => {
    await grow(0, TEN)
    const ofTen = await costs()
    await grow(TEN, FEW)
    const ofFew = await costs()
    await grow(FEW, MANY)
    const ofMany = await costs()
    for (const path of PAGES) {
      const [ten, few, many] = [ofTen.get(path), ofFew.get(path), ofMany.get(path)]
      if (ten === undefined || few === undefined || many === undefined) throw new Error(path)
      const readMax = Math.min(few.read * FACTOR + LEVELS, READ_MAX)
      const summary = `${path}: ${ten.read}, ${few.read}, ${many.read} database pages`
      expect([summary, many.read]).toEqual([summary, Math.min(many.read, readMax)])
      expect([path, many.bytes]).toEqual([path, Math.min(many.bytes, few.bytes * FACTOR)])
    }
  }, 300_000)
})
