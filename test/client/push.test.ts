import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type LocalBlob, pushImage } from '../../src/client/push.ts'
import { RemoteRepository } from '../../src/client/remote-repository.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepository, parseTag } from '../../src/oci/reference.ts'
import { FakeRegistry, failure, first } from './fake-registry.ts'

const MANIFEST = Buffer.from('{"schemaVersion":2}')
const DIGEST = digestOf(MANIFEST)

let registry: FakeRegistry
let repository: RemoteRepository
let folder: string
let counted: number
let done: string[]

beforeEach(async () => {
  registry = await FakeRegistry.open()
  repository = new RemoteRepository(registry.place, parseRepository('www'), {
    actions: 'pull,push',
  })
  folder = await mkdtemp(join(tmpdir(), 'rookery-pushing-'))
  counted = 0
  done = []
})

afterEach(async () => {
  await repository.close()
  await registry.close()
  await rm(folder, { recursive: true, force: true })
})

async function file(title: string, bytes: Buffer): Promise<LocalBlob> {
  const path = join(folder, title)
  await writeFile(path, bytes)
  return { digest: digestOf(bytes), size: bytes.length, title, from: { path } }
}

const push = (blobs: readonly LocalBlob[], tags = ['v1']) =>
  pushImage(repository, {
    blobs,
    manifest: MANIFEST,
    digest: DIGEST,
    tags: tags.map(parseTag),
    buildId: randomUUID(),
    progress: {
      sent: (bytes) => {
        counted += bytes
      },
      done: ({ title }, sent) => void done.push(`${title} ${sent}`),
    },
  })

describe('an image', () => {
  it('has the deployments that the registry names in links, by tag', async () => {
    const monitor = '</api/v1/deployments/1>; rel="monitor"'
    registry.interfere = ({ path }, response) => {
      // Another link before it, as of a proxy.
      const links = `</about>; rel="about", ${monitor}`
      if (path.endsWith('/manifests/live')) response.setHeader('link', links)
      return false
    }
    const { deployments } = await push([], ['v1', 'live'])
    expect([...deployments]).toEqual([['live', '/api/v1/deployments/1']])
  })

  it('is pushed with each blob once, and the manifest last', async () => {
    const large = await file('large', randomBytes(3_000_000))
    const empty = await file('empty', Buffer.alloc(0))
    const same = { ...large, title: 'same' }
    const present = await file('present', Buffer.from('present'))
    registry.put(Buffer.from('present'))
    const bytes = Buffer.from('{}')
    const memory = { digest: digestOf(bytes), size: 2, title: 'config', from: { bytes } }
    await push([large, same, empty, present, memory], ['v1', 'latest'])
    expect(registry.blobs.get(large.digest)?.length).toBe(3_000_000)
    expect(registry.blobs.get(empty.digest)?.length).toBe(0)
    expect(registry.blobs.get(memory.digest)?.toString()).toBe('{}')
    expect(done.sort()).toEqual(['config true', 'empty true', 'present false', 'same true'])
    expect(counted).toBe(3_000_002)
    const manifests = registry.seen.flatMap(({ path }) => /manifests\/(.*)/.exec(path)?.[1] ?? [])
    expect(manifests).toEqual(['v1', 'latest'])
    expect(registry.seen.slice(-2).map(({ method }) => method)).toEqual(['PUT', 'PUT'])
  })

  it('counts each byte once, also after a retry', async () => {
    const blob = await file('large', randomBytes(1_000_000))
    let cuts = 1
    registry.cut = (method) => method === 'PUT' && cuts-- > 0
    await push([blob])
    expect(counted).toBe(1_000_000)
  })

  it('with a refused blob is pushed without a manifest', async () => {
    registry.interfere = ({ method, query }, response) => {
      if (method !== 'PUT' || !query.has('digest')) return false
      const [status, headers, body] = failure(400, 'SIZE_INVALID', 'no room')
      response.writeHead(status, headers).end(body)
      return true
    }
    const blobs = await Promise.all(
      ['a', 'b', 'c', 'd', 'e', 'f'].map((one) => file(one, Buffer.from(one))),
    )
    await expect(push(blobs)).rejects.toThrow(/refused [a-c]: no room/)
    expect(registry.count('PUT', /manifests/)).toBe(0)
    // Uploads in progress end; no other begins.
    expect(registry.count('POST', /uploads/)).toBeLessThanOrEqual(3)
  })

  it('whose file changed meanwhile is refused, and no manifest is put', async () => {
    for (const change of [
      (path: string) => truncate(path, 10),
      (path: string) => rm(path),
      (path: string) => writeFile(path, randomBytes(100_000)),
    ]) {
      const blob = await file('changing', randomBytes(100_000))
      await change(join(folder, 'changing'))
      await expect(push([blob])).rejects.toThrow(/changing/)
    }
    expect(registry.count('PUT', /manifests/)).toBe(0)
  })

  it('with a refused tag reports the tags that were set', async () => {
    registry.interfere = first(
      1,
      ({ path }) => path.endsWith('/manifests/v3'),
      (response) => {
        const [status, headers, body] = failure(403, 'DENIED', 'not v3')
        response.writeHead(status, headers).end(body)
      },
    )
    const pushed = push([], ['v1', 'v2', 'v3', 'v4'])
    await expect(pushed).rejects.toThrow(/the manifest v3: not v3 .*; already set: v1, v2$/)
    expect(registry.manifests.has('v4')).toBe(false)
  })
})
