import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeCredential } from '../auth/credentials-client.ts'
import { IMAGE_INDEX } from '../support/media-types.ts'
import { newRepository, pushImage, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { builderOutput, errorLine, printedJson } from './builder.ts'

let registry: TestRegistry
let host: string
let login: Record<string, string>

beforeAll(async () => {
  registry = await startRegistry()
  host = new URL(registry.url).host
  const { secret } = await makeCredential(registry, {
    repositories: ['**'],
    actions: ['pull', 'push', 'delete'],
  })
  login = { ROOKERY_TOKEN: secret }
})
afterAll(() => registry.close())

const status = async (repository: string, reference: string) =>
  (await registry.request(`/v2/${repository}/manifests/${reference}`)).status

async function makeImmutable(repository: string, patterns: string[]): Promise<void> {
  const sent = await registry.request(`/api/v1/repositories/${repository}/settings`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ immutableTags: patterns }),
  })
  expect(sent.status).toBe(200)
}

/** Pushes two tags of one image. */
async function pushTwice(repository: string): Promise<string> {
  const { digest, body } = await pushImage(registry, repository, 'a')
  expect((await putManifest(registry, repository, 'b', body)).status).toBe(201)
  return digest
}

describe('rookery tag delete', () => {
  it('deletes the tag and keeps the image', async () => {
    const repository = newRepository()
    const digest = await pushTwice(repository)
    const tag = `${host}/${repository}:a`
    expect(await builderOutput(['tag', 'delete', tag], login)).toBe(
      `Deleted tag a; it was at ${digest}, which stays\n`,
    )
    expect(await status(repository, 'a')).toBe(404)
    expect(await status(repository, 'b')).toBe(200)
    const other = `${host}/${repository}:b`
    expect(await printedJson(['tag', 'delete', other], login)).toEqual({ tag: 'b', digest })
    expect(await status(repository, digest)).toBe(200)
  })

  it('with --if deletes it only from this image', async () => {
    const repository = newRepository()
    const digest = await pushTwice(repository)
    const words = ['tag', 'delete', `${host}/${repository}:a`, '--if']
    const other = `sha256:${'0'.repeat(64)}`
    expect(await errorLine([...words, other], login)).toContain('the deletion of a')
    expect(await status(repository, 'a')).toBe(200)
    await builderOutput([...words, digest], login)
    expect(await status(repository, 'a')).toBe(404)
  })

  it('is refused for a tag that is missing or immutable, and without a right', async () => {
    const repository = newRepository()
    await pushTwice(repository)
    await makeImmutable(repository, ['a'])
    const words = ['tag', 'delete', `${host}/${repository}:a`]
    const refused = await errorLine(words, login)
    expect(refused).toMatch(/refused the deletion of a: tag a is immutable, .* \(DENIED\)$/)
    expect(await errorLine(['tag', 'delete', `${host}/${repository}:c`], login)).toMatch(
      /manifest unknown to registry/,
    )
    expect(await errorLine(['tag', 'delete', `${host}/${repository}:b`])).toContain('log in')
    expect(await status(repository, 'b')).toBe(200)
    for (const reference of ['', `@sha256:${'0'.repeat(64)}`]) {
      const wrong = ['tag', 'delete', `${host}/${repository}${reference}`]
      expect(await errorLine(wrong, login)).toContain('must end with :TAG')
    }
    const both = `${host}/${repository}:b@sha256:${'0'.repeat(64)}`
    expect(await errorLine(['tag', 'delete', both], login)).toContain('its digest with --if')
  })
})

describe('rookery image delete', () => {
  it('deletes the image of a tag or digest, and lists the tags that went with it', async () => {
    const repository = newRepository()
    const first = await pushTwice(repository)
    const named = ['image', 'delete', `${host}/${repository}:b`]
    expect(await builderOutput(named, login)).toBe(`Deleted image ${first} and its tags a, b\n`)
    expect(await status(repository, first)).toBe(404)
    const second = await pushTwice(repository)
    const digest = ['image', 'delete', `${host}/${repository}@${second}`]
    expect(await printedJson(digest, login)).toEqual({ digest: second, tags: ['a', 'b'] })
    const { digest: untagged } = await pushImage(registry, repository)
    expect(
      await builderOutput(['image', 'delete', `${host}/${repository}@${untagged}`], login),
    ).toBe(`Deleted image ${untagged}\n`)
  })

  it('is refused for a part of a tagged index, and for an immutable tag', async () => {
    const repository = newRepository()
    const { digest, size, mediaType } = await pushImage(registry, repository)
    const index = {
      schemaVersion: 2,
      mediaType: IMAGE_INDEX,
      manifests: [{ digest, size, mediaType }],
    }
    expect((await putManifest(registry, repository, 'all', index)).status).toBe(201)
    const part = ['image', 'delete', `${host}/${repository}@${digest}`]
    expect(await errorLine(part, login)).toContain(
      `the image of tag all contains ${digest}: delete the tag first`,
    )
    await makeImmutable(repository, ['all'])
    const whole = ['image', 'delete', `${host}/${repository}:all`]
    expect(await errorLine(whole, login)).toContain('tag all is immutable')
    await makeImmutable(repository, [])
    await builderOutput(whole, login)
    await builderOutput(part, login)
    expect(await status(repository, digest)).toBe(404)
  })

  it('is refused for an image that does not exist', async () => {
    const repository = newRepository()
    await pushImage(registry, repository, 'v1')
    expect(await errorLine(['image', 'delete', `${host}/${repository}:no`], login)).toContain(
      `has no ${host}/${repository}:no`,
    )
    const missing = `${host}/${repository}@sha256:${'0'.repeat(64)}`
    expect(await errorLine(['image', 'delete', missing], login)).toContain('manifest unknown')
    expect(await errorLine(['image', 'delete', `${host}/${repository}`], login)).toContain(
      'must end with :TAG or @DIGEST',
    )
  })
})
