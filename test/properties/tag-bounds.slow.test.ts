import { afterAll, beforeAll, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { newRepository, pushBlob } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const SEEDS = [1, 2, 3, 4]
const CONTENTS = 24
const OPERATIONS = 120

type Content = { mediaType: string; digest: string; size: number }
type Stored = Content & { body: string; blobs: string[]; children: Content[]; subject?: Content }

let registry: TestRegistry
let bounded: string

beforeAll(async () => {
  registry = await startRegistry()
  const { name, secret } = await makeCredential(registry, {
    repositories: ['conformance/*'],
    actions: ['pull', 'push', 'delete', 'admin'],
    tags: ['edge-*'],
  })
  bounded = basic(name, secret)
})
afterAll(() => registry.close())

function randomOf(seed: number) {
  let state = seed
  const below = (limit: number) => {
    state = (state * 1103515245 + 12345) % 2147483648
    return Math.floor((state / 2147483648) * limit)
  }
  const pick = <T>(list: readonly T[]): T => list[below(list.length)] as T
  return { below, pick }
}

class Model {
  readonly repository = newRepository()
  readonly stored: Stored[] = []
  readonly tags = new Map<string, Stored>()
  readonly blobs: Content[] = []

  async send(authorization: string, method: string, path: string, body?: string, type?: string) {
    const headers = type === undefined ? {} : { 'content-type': type }
    const answer = await registry.anonymous(`/v2/${this.repository}/${path}`, {
      method,
      headers: { authorization, ...headers },
      ...(body === undefined ? {} : { body }),
    })
    return {
      status: answer.status,
      type: answer.headers.get('content-type'),
      text: await answer.text(),
    }
  }

  /** Makes an image or an index, with or without a subject. */
  make({ below, pick }: ReturnType<typeof randomOf>, serial: string): Stored {
    const of = ({ mediaType, digest, size }: Content) => ({ mediaType, digest, size })
    const isIndex = this.stored.length > 2 && below(3) === 0
    const subject = this.stored.length > 0 && below(3) === 0 ? of(pick(this.stored)) : undefined
    const children = isIndex ? [of(pick(this.stored)), of(pick(this.stored))] : []
    const blobs = isIndex ? [] : [pick(this.blobs), pick(this.blobs)]
    const mediaType = isIndex ? IMAGE_INDEX : IMAGE_MANIFEST
    const body = JSON.stringify({
      schemaVersion: 2,
      ...(isIndex ? { manifests: children } : { config: blobs[0], layers: blobs.slice(1) }),
      ...(subject === undefined ? {} : { subject }),
      annotations: { serial },
    })
    const content = { mediaType, digest: digestOf(body), size: Buffer.byteLength(body) }
    return {
      ...content,
      body,
      blobs: blobs.map(({ digest }) => digest),
      children,
      ...(subject === undefined ? {} : { subject }),
    }
  }

  /** Everything that somebody sees of a tag: bytes and types of its closure, and the referrers of each manifest. */
  async seen(tag: string): Promise<string[]> {
    const lines: string[] = []
    const read = new Set<string>()
    const readAll = async (reference: string): Promise<void> => {
      if (read.has(reference)) return
      read.add(reference)
      const got = await this.send(bounded, 'GET', `manifests/${reference}`)
      lines.push(`${reference} ${got.status} ${got.type} ${got.text}`)
      if (got.status !== 200) return
      const { manifests = [], layers = [], config } = JSON.parse(got.text)
      const blobs = config === undefined ? [] : [config, ...layers]
      for (const { digest } of blobs) {
        lines.push(`${digest} ${(await this.send(bounded, 'GET', `blobs/${digest}`)).text}`)
      }
      const referrers = await this.send(bounded, 'GET', `referrers/${digestOf(got.text)}`)
      lines.push(referrers.text)
      const { manifests: signatures } = JSON.parse(referrers.text)
      for (const { digest } of [...manifests, ...signatures]) await readAll(digest)
    }
    await readAll(tag)
    return lines
  }
}

it.each(SEEDS)('a caller for some tags changes nothing of the others, seed %i', async (seed) => {
  const random = randomOf(seed)
  const { below, pick } = random
  const model = new Model()
  const admin = basic('admin', registry.password)
  for (let count = 0; count < 6; count += 1) {
    const { bytes: _, ...blob } = await pushBlob(registry, model.repository)
    model.blobs.push(blob)
  }
  for (let count = 0; count < CONTENTS; count += 1) {
    const made = model.make(random, `${seed}-${count}`)
    const tag = below(2) === 0 ? made.digest : `${pick(['live', 'edge'])}-${count}`
    const put = await model.send(admin, 'PUT', `manifests/${tag}`, made.body, made.mediaType)
    expect(put.status).toBe(201)
    model.stored.push(made)
    if (tag !== made.digest) model.tags.set(tag, made)
  }
  const foreign = [...model.tags.keys()].filter((tag) => tag.startsWith('live'))
  const before = new Map<string, string[]>()
  for (const tag of foreign) before.set(tag, await model.seen(tag))

  const statuses = new Map<number, number>()
  for (let count = 0; count < OPERATIONS; count += 1) {
    const one = pick(model.stored)
    const operations = [
      ['DELETE', `blobs/${pick(model.blobs).digest}`],
      ['DELETE', `manifests/${one.digest}`],
      ['DELETE', `manifests/${pick([...model.tags.keys()])}`],
      ['PUT', `manifests/${one.digest}`, one.body, 'application/vnd.other+json'],
      ['PUT', `manifests/edge-${below(4)}`, one.body, one.mediaType],
      ['PUT', `manifests/live-${below(4)}`, one.body, one.mediaType],
    ] as const
    const forged = model.make(random, `forged-${seed}-${count}`)
    const [method, path, body, type] = pick([
      ...operations,
      ['PUT', `manifests/${pick([forged.digest, 'edge-forged'])}`, forged.body, forged.mediaType],
    ] as const)
    const { status } = await model.send(bounded, method, path, body, type)
    expect(status).toBeLessThan(500)
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
  }
  for (const tag of foreign) expect(await model.seen(tag)).toEqual(before.get(tag))
  // The operations are a mixture: some are allowed, and some are refused.
  expect([...statuses.keys()]).toEqual(expect.arrayContaining([201, 202, 403]))
})
