import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FeedCursors } from '../../src/events/cursor.ts'
import { CursorCipher } from '../../src/events/cursor-cipher.ts'
import { addDeployment } from '../deployments/deployment-rows.ts'
import { openStream, waitForBlocks } from '../feed/event-stream-client.ts'
import { expectedOf, formOf, newestBuild, postImage, pushBuild } from '../images/image-fixtures.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { answeredPath, ROUTES, type Samples } from './route-paths.ts'

const REPOSITORY = 'mine/www'
const TEXT = /^[0-9a-f]{32}(?:\.[0-9a-f]{32}){0,2}$/
/** Lists in the order of names, whose cursor is the last name of the page. */
const BY_NAME = /\/(?:tags\/list|_catalog|credentials|policies|rollouts|webhooks)$/

let registry: TestRegistry
let samples: Samples

beforeAll(async () => {
  registry = await startRegistry()
  const manifest = await pushBuild(registry, REPOSITORY, 'v1', 'hello-key-2')
  await pushBuild(registry, REPOSITORY, 'v1', 'hello-key-4-same-input-different-output')
  await pushBuild(registry, 'other/www', 'v1', 'hello-key-2')
  await postImage(registry, REPOSITORY, '?tag=v1', formOf('hello-key-2'))
  const image = await registry.request(`/api/v1/repositories/${REPOSITORY}/images/${manifest}`)
  const { kernel } = (await image.json()) as { kernel: { digest: string } }
  samples = {
    repository: REPOSITORY,
    tag: 'v1',
    manifest,
    kernel: kernel.digest,
    inputId: expectedOf('hello-key-2').input_id,
    package: 'bigstringaf',
    webhook: 'none',
    event: 'none',
    build: await newestBuild(registry, REPOSITORY),
    deployment: await addDeployment(registry, REPOSITORY),
  }
})
afterAll(() => registry.close())

async function pageOf(query: string) {
  const answer = await registry.anonymous(`/api/v1/events${query}`)
  expect(answer.status).toBe(200)
  return (await answer.json()) as { cursor: string; events: { subject: string }[] }
}

describe('a cursor of the feed', () => {
  it('does not show whether anything happened', async () => {
    const cursors = new Set<string>()
    for (let round = 0; round < 50; round += 1) cursors.add((await pageOf('?n=0')).cursor)
    expect(cursors.size).toBe(50)
    for (const cursor of cursors) expect(cursor).toMatch(TEXT)
  })

  it('is the same position, however often it is written', async () => {
    const repository = newRepository()
    const before = [(await pageOf('?n=0')).cursor, (await pageOf('?n=0')).cursor]
    await pushImage(registry, repository, 'live')
    for (const after of before) {
      const read = async () => (await pageOf(`?after=${after}&repository=${repository}`)).events
      await expect.poll(async () => (await read()).length).toBe(2)
    }
  })

  it('in a stream is the id of each event, and resumes behind it', async () => {
    const repository = newRepository()
    const stream = await openStream(registry.url, `?repository=${repository}`)
    await pushImage(registry, repository, 'live')
    await waitForBlocks(stream, 2)
    const [first, second] = stream.blocks.map(({ id }) => id ?? '')
    stream.close()
    expect([first, second]).toEqual([expect.stringMatching(TEXT), expect.stringMatching(TEXT)])
    const { events } = await pageOf(`?after=${first}&repository=${repository}`)
    expect(events.map(({ subject }) => subject)).toEqual([`${repository}:live`])
  })

  it('of a follower is encrypted once for all followers', () => {
    const cursors = new FeedCursors(Buffer.alloc(32, 7))
    const event = { epoch: '00abcdef', position: 5 }
    expect(cursors.ofEvent(event)).toBe(cursors.ofEvent(event))
    expect(cursors.format(event)).not.toBe(cursors.format(event))
    expect(cursors.parse(cursors.ofEvent(event))).toEqual(event)
    const other = new FeedCursors(Buffer.alloc(32, 8))
    expect(other.parse(cursors.ofEvent(event))?.epoch).not.toBe(event.epoch)
  })
})

describe('a cursor of a list', () => {
  it('is a name of the page or encrypted, in every list that a stranger may read', async () => {
    const seen: string[] = []
    for (const { method, path } of ROUTES) {
      if (method !== 'GET') continue
      const asked = answeredPath(path, samples)
      const answer = await registry.anonymous(`${asked}?n=1`)
      const next = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1]
      if (next === undefined || BY_NAME.test(path)) continue
      const last = new URL(next, registry.url).searchParams.get('last') ?? ''
      expect([path, last]).toEqual([path, expect.stringMatching(TEXT)])
      expect((await registry.anonymous(next)).status).toBe(200)
      expect((await registry.anonymous(next.replace(last, '1'))).status).toBe(400)
      const forged = last.replace(/^./, (digit) => (digit === '0' ? '1' : '0'))
      expect((await registry.anonymous(next.replace(last, forged))).status).toBe(400)
      seen.push(path)
    }
    expect(seen.length).toBeGreaterThanOrEqual(4)
  })
})

describe('an encrypted number', () => {
  it('is itself again for every size, and nothing for another text', () => {
    const cipher = new CursorCipher(Buffer.alloc(32, 1))
    for (const value of [0, 1, 255, 2 ** 32, 2 ** 48 - 1]) {
      const text = cipher.encrypt(0xffffffff, value)
      expect(text).toMatch(TEXT)
      expect(cipher.decrypt(text)).toEqual({ space: 0xffffffff, value })
    }
    for (const text of ['', '1', 'g'.repeat(32), 'A'.repeat(32), '0'.repeat(31), '0'.repeat(33)]) {
      expect(cipher.decrypt(text)).toBeUndefined()
    }
  })
})
