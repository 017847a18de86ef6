import { randomBytes } from 'node:crypto'
import { expect } from 'vitest'
import { digestOf } from './digest.ts'
import { IMAGE_CONFIG, IMAGE_MANIFEST } from './media-types.ts'
import type { TestRegistry } from './registry.ts'

export const OCTETS = { 'content-type': 'application/octet-stream' }

export type Descriptor = { mediaType: string; digest: string; size: number }

let names = 0

/** Returns the name of a repository that no other test uses. */
export function newRepository(): string {
  names += 1
  return `conformance/r${names}-${randomBytes(4).toString('hex')}`
}

/** Pushes a blob in one request. */
export async function pushBlob(
  registry: TestRegistry,
  repository: string,
  bytes: Buffer = randomBytes(64),
  algorithm = 'sha256',
): Promise<Descriptor & { bytes: Buffer }> {
  const digest = digestOf(bytes, algorithm)
  const answer = await registry.request(`/v2/${repository}/blobs/uploads/?digest=${digest}`, {
    method: 'POST',
    headers: OCTETS,
    body: new Uint8Array(bytes),
  })
  expect(answer.status).toBe(201)
  return { mediaType: 'application/octet-stream', digest, size: bytes.length, bytes }
}

/** Pushes two blobs, and returns an image manifest of them. */
export async function pushImageBlobs(
  registry: TestRegistry,
  repository: string,
  more: Record<string, unknown> = {},
): Promise<Record<string, unknown>> {
  const { bytes: _config, ...config } = await pushBlob(registry, repository)
  const { bytes: _layer, ...layer } = await pushBlob(registry, repository)
  return {
    schemaVersion: 2,
    mediaType: IMAGE_MANIFEST,
    config: { ...config, mediaType: IMAGE_CONFIG },
    layers: [layer],
    ...more,
  }
}

export async function putManifest(
  registry: TestRegistry,
  repository: string,
  reference: string,
  manifest: unknown,
  headers: Record<string, string> = {},
): Promise<Response> {
  const body = typeof manifest === 'string' ? manifest : JSON.stringify(manifest)
  const mediaType = (manifest as { mediaType?: string }).mediaType ?? IMAGE_MANIFEST
  return registry.request(`/v2/${repository}/manifests/${reference}`, {
    method: 'PUT',
    headers: { 'content-type': mediaType, ...headers },
    body,
  })
}

export type PushedImage = Descriptor & { body: string }

/** Pushes an image under a tag or, without one, under its digest. */
export async function pushImage(
  registry: TestRegistry,
  repository: string,
  tag?: string,
  more: Record<string, unknown> = {},
): Promise<PushedImage> {
  const manifest = await pushImageBlobs(registry, repository, more)
  const body = JSON.stringify(manifest)
  const digest = digestOf(body)
  const answer = await putManifest(registry, repository, tag ?? digest, manifest)
  expect(answer.status).toBe(201)
  expect(answer.headers.get('docker-content-digest')).toBe(digest)
  return { mediaType: IMAGE_MANIFEST, digest, size: Buffer.byteLength(body), body }
}

/** Starts an upload and returns its Location. */
export async function startUpload(
  registry: TestRegistry,
  repository: string,
  query = '',
): Promise<string> {
  const answer = await registry.request(`/v2/${repository}/blobs/uploads/${query}`, {
    method: 'POST',
  })
  expect(answer.status).toBe(202)
  return answer.headers.get('location') ?? ''
}

export function send(
  registry: TestRegistry,
  method: string,
  location: string,
  bytes?: Buffer | string,
  headers: Record<string, string> = {},
): Promise<Response> {
  return registry.request(location, {
    method,
    headers: { ...OCTETS, ...headers },
    ...(bytes === undefined ? {} : { body: new Uint8Array(Buffer.from(bytes)) }),
  })
}

/** Asserts the status of an answer and, in the spec's JSON, its error code. */
export async function expectError(answer: Response, status: number, code: string): Promise<void> {
  const text = await answer.text()
  expect({ status: answer.status, text }).toMatchObject({ status })
  expect(answer.headers.get('content-type')).toContain('application/json')
  expect(JSON.parse(text).errors[0]).toMatchObject({ code })
}

/** Reads all pages, following the Link headers. */
export async function readPages(
  registry: TestRegistry,
  path: string,
): Promise<{ pages: Record<string, unknown>[]; links: number }> {
  const pages: Record<string, unknown>[] = []
  let next: string | undefined = path
  let links = 0
  while (next !== undefined) {
    const answer: Response = await registry.request(next)
    expect(answer.status).toBe(200)
    pages.push((await answer.json()) as Record<string, unknown>)
    const link: string | null = answer.headers.get('link')
    next = link === null ? undefined : /^<([^>]+)>; rel="next"$/.exec(link)?.[1]
    if (link !== null) {
      expect(next).toBeDefined()
      links += 1
    }
  }
  return { pages, links }
}
