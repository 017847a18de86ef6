import { readFileSync } from 'node:fs'
import { expect } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { EMPTY_JSON, IMAGE_MANIFEST } from '../support/media-types.ts'
import { pushBlob, putManifest } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'

export const BUILDS = [
  'hello-key-1',
  'hello-key-2',
  'hello-key-3-freebsd-same-output',
  'hello-key-4-same-input-different-output',
] as const
export type Build = (typeof BUILDS)[number]

const FIXTURES = new URL('../fixtures/', import.meta.url)

/** A file of `test/fixtures`. */
export function fixture(path: string): Buffer {
  return readFileSync(new URL(path, FIXTURES))
}

export type Expected = { readonly input_id: string; readonly main_binary_sha256: string }

/** The expected hashes of a fixture build. */
export function expectedOf(build: Build): Expected {
  return JSON.parse(fixture(`builds/${build}.json`).toString())
}

/** The files of a build by role, in the order of layers. */
export const FILES = {
  kernel: 'bin/hello-key.hvt',
  'opam-switch': 'opam-switch',
  'system-packages': 'system-packages',
  'build-environment': 'build-environment',
  'build-hashes': 'hello-key.build-hashes',
  debug: 'hello-key.hvt.debug',
  readme: 'README.md',
} as const
export type FileRole = keyof typeof FILES
export const FILE_ROLES = Object.keys(FILES) as FileRole[]

/** A form as `curl -F` sends it. `replaced` files have other bytes, or with null are left out. */
export function formOf(build: Build, replaced: Record<string, Buffer | null> = {}): FormData {
  const form = new FormData()
  for (const role of new Set([...FILE_ROLES, ...Object.keys(replaced)])) {
    const bytes = role in replaced ? replaced[role] : fixtureOf(build, role as FileRole)
    if (bytes === null || bytes === undefined) continue
    const path = FILES[role as FileRole] ?? role
    form.append(role, new Blob([new Uint8Array(bytes)]), path.slice(path.lastIndexOf('/') + 1))
  }
  return form
}

export function fixtureOf(build: Build, role: FileRole): Buffer {
  return fixture(`builds/${build}/${FILES[role]}`)
}

/** Sends an image in one request. */
export function postImage(
  registry: TestRegistry,
  repository: string,
  query: string,
  form: FormData,
): Promise<Response> {
  const path = `/api/v1/repositories/${repository}/images${query}`
  return registry.request(path, { method: 'POST', body: form })
}

/** Pushes a fixture build in one request, and returns the digest of the manifest. */
export async function pushBuild(
  registry: TestRegistry,
  repository: string,
  tag: string,
  build: Build = 'hello-key-1',
): Promise<string> {
  const answer = await postImage(registry, repository, `?tag=${tag}`, formOf(build))
  expect({ status: answer.status, body: await answer.clone().text() }).toMatchObject({
    status: 201,
  })
  return ((await answer.json()) as { digest: string }).digest
}

/** The id of the newest build of a repository. */
export async function newestBuild(registry: TestRegistry, repository: string): Promise<string> {
  const { builds } = await ask(registry, `repositories/${repository}/builds?n=1`)
  return builds[0].id
}

export type LayerFile = {
  readonly mediaType: string
  readonly bytes: Buffer
  readonly title?: string | undefined
}

/** Pushes files and a manifest of them in single requests; `more` are fields of the manifest. */
export async function pushLayers(
  registry: TestRegistry,
  repository: string,
  reference: string,
  files: readonly LayerFile[],
  more: Record<string, unknown> = {},
): Promise<Response> {
  const layers = []
  await pushBlob(registry, repository, Buffer.from('{}'))
  for (const { mediaType, bytes, title } of files) {
    const { digest, size } = await pushBlob(registry, repository, bytes)
    const annotations =
      title === undefined ? undefined : { 'org.opencontainers.image.title': title }
    layers.push({ mediaType, digest, size, ...(annotations && { annotations }) })
  }
  const image = { schemaVersion: 2, mediaType: IMAGE_MANIFEST, config: EMPTY, layers, ...more }
  return putManifest(registry, repository, reference, image)
}

export const EMPTY = {
  mediaType: EMPTY_JSON,
  digest: digestOf('{}'),
  size: 2,
}

/** The JSON of an API response. */
export async function ask(registry: TestRegistry, path: string, status = 200) {
  const answer = await registry.request(`/api/v1/${path}`)
  const text = await answer.text()
  expect({ status: answer.status, text: status === 200 ? '' : text }).toMatchObject({ status })
  return JSON.parse(text)
}

/** The code and message of an error response. */
export async function messageOf(answer: Response): Promise<string> {
  const { errors } = (await answer.json()) as { errors: { code: string; message: string }[] }
  return `${errors[0]?.code}: ${errors[0]?.message}`
}

export const KERNEL = 'application/vnd.unikernel.kernel.v1'
/** Declares an image to be a unikernel. */
export const UNIKERNEL = { artifactType: 'application/vnd.unikernel.v1' }
/** oras' media type for files without one. */
export const PLAIN = 'application/vnd.oci.image.layer.v1.tar'

/** A small kernel with one device, `net:service`. */
export const net = fixture('elf/mini-net.hvt')

/** A layer that declares to be the kernel. */
export const kernel = (bytes = net, title = 'mini-net.hvt'): LayerFile => ({
  mediaType: KERNEL,
  bytes,
  title,
})

export async function expectRefusal(answer: Response, message: RegExp): Promise<void> {
  expect(answer.status).toBe(400)
  expect(await messageOf(answer)).toMatch(message)
}
