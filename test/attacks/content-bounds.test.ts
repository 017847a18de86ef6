import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { newRepository, pushImage, pushImageBlobs, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

// The bounds keep each at some tens of milliseconds. Without them each took 0.4 s to 4.7 s.
const BLOCK_MILLISECONDS_MAX = 250
const ROUNDS = 3

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

/** Returns the longest time for which the event loop stood still, in the best of some rounds. */
async function longestBlock(request: () => Promise<unknown>): Promise<number> {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round += 1) {
    let longest = 0
    let last = performance.now()
    const timer = setInterval(() => {
      const now = performance.now()
      longest = Math.max(longest, now - last)
      last = now
    }, 1)
    await request()
    longest = Math.max(longest, performance.now() - last)
    clearInterval(timer)
    best = Math.min(best, longest)
  }
  return best
}

const manyOf = (count: number, text: (index: number) => string) =>
  Array.from({ length: count }, (_, index) => text(index)).join(',')

const refused = [
  ['8 MiB of nested lists', `{"x":${'['.repeat(8_000_000)}`, 'is nested deeper than 64 levels'],
  [
    '520 000 annotations',
    `{"annotations":{${manyOf(520_000, (index) => `"k${index}":""`)}}}`,
    'has more than 50000 values',
  ],
  [
    '1001 annotations',
    `{"annotations":{${manyOf(1_001, (index) => `"k${index}":""`)}}}`,
    'has 1001 annotations: at most 1000 are allowed',
  ],
  [
    'a number of 8 MB',
    `{"schemaVersion":${'1'.repeat(8_000_000)}}`,
    'has more than 2097152 bytes outside of text',
  ],
  [
    '2001 layers',
    `{"layers":[${'{},'.repeat(2_000)}{}],"config":{"mediaType":"a/b","size":1,"digest":"${digestOf('x')}"}}`,
    'layers must have at most 2000 entries',
  ],
] as const

describe('a manifest with', () => {
  it.each(refused)('%s is refused at once, with the bound', async (_what, body, problem) => {
    const name = newRepository()
    const push = () => putManifest(registry, name, 'v1', body, { 'content-type': IMAGE_MANIFEST })
    const answer = await push()
    expect(answer.status).toBe(400)
    const { errors } = (await answer.json()) as { errors: { message: string }[] }
    expect(errors[0]).toMatchObject({ code: 'MANIFEST_INVALID' })
    expect(errors[0]?.message).toContain(problem)
    expect(await longestBlock(push)).toBeLessThan(BLOCK_MILLISECONDS_MAX)
  })

  it('as many annotations as allowed is stored, and listed as a referrer', async () => {
    const name = newRepository()
    const { body: _, ...subject } = await pushImage(registry, name)
    const annotations = Object.fromEntries(
      Array.from({ length: 1_000 }, (_, index) => [`k${index}`, 'ä"\\\u2028']),
    )
    const referrer = JSON.stringify(await pushImageBlobs(registry, name, { subject, annotations }))
    expect((await putManifest(registry, name, digestOf(referrer), referrer)).status).toBe(201)
    const answer = await registry.anonymous(`/v2/${name}/referrers/${subject.digest}`)
    expect(await answer.json()).toMatchObject({ manifests: [{ annotations }] })
  })
})

it('a referrer that was stored before the bounds is listed without delay', async () => {
  const name = newRepository()
  const { body: _, ...subject } = await pushImage(registry, name)
  const referrer = JSON.stringify(await pushImageBlobs(registry, name, { subject }))
  await putManifest(registry, name, digestOf(referrer), referrer)
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  const text = `{${manyOf(520_000, (index) => `"k${index}":""`)}}`
  await client.query('update manifests set annotations = $1 where subject = $2', [
    text,
    subject.digest,
  ])
  await client.end()
  const list = async () => {
    const answer = await registry.anonymous(`/v2/${name}/referrers/${subject.digest}`)
    expect(answer.status).toBe(200)
    return answer.arrayBuffer()
  }
  expect(Buffer.from(await list()).includes(text)).toBe(true)
  expect(await longestBlock(list)).toBeLessThan(BLOCK_MILLISECONDS_MAX)
})
