import { gzipSync } from 'node:zlib'
import { type Header, pack } from 'tar-stream'
import { pushBlob, putManifest } from './push.ts'
import type { TestRegistry } from './registry.ts'

export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json'
export const DOCKER_LAYER = 'application/vnd.docker.image.rootfs.diff.tar.gzip'
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json'
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar'

/** An entry of a layer: a file with its content, or the fields of another kind of entry. */
export type LayerEntry = readonly [name: string, content: Buffer | string | Partial<Header>]

/** Makes a tar file. */
export async function tarOf(entries: readonly LayerEntry[]): Promise<Buffer> {
  const archive = pack()
  for (const [name, content] of entries) {
    if (typeof content === 'string' || Buffer.isBuffer(content)) archive.entry({ name }, content)
    else archive.entry({ name, ...content })
  }
  archive.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of archive) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

/** A layer of these entries, compressed by gzip. */
export const layerOf = async (...entries: LayerEntry[]): Promise<Buffer> =>
  gzipSync(await tarOf(entries))

/** A symbolic link, with its target as it is written. */
export const link = (name: string, linkname: string): LayerEntry => [
  name,
  { type: 'symlink', linkname },
]

export type ContainerOptions = {
  readonly kind?: 'docker' | 'oci'
  /** The media type of the layers. */
  readonly layerType?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly layerAnnotations?: Readonly<Record<string, string>>
}

/** Pushes a container image with these layers, the lowest first. */
export async function pushContainer(
  registry: TestRegistry,
  repository: string,
  reference: string,
  layers: readonly Buffer[],
  options: ContainerOptions = {},
): Promise<Response> {
  const manifest = await containerManifest(registry, repository, layers, options)
  return putManifest(registry, repository, reference, manifest)
}

/** Pushes the blobs of a container image, and returns its manifest. */
export async function containerManifest(
  registry: TestRegistry,
  repository: string,
  layers: readonly Buffer[],
  { kind = 'docker', layerType, labels = {}, annotations, layerAnnotations }: ContainerOptions = {},
) {
  const isDocker = kind === 'docker'
  const config = {
    ...{ architecture: 'amd64', os: 'linux', created: '2026-05-20T18:07:42.5Z' },
    config: { Labels: labels },
    rootfs: { type: 'layers', diff_ids: [] },
  }
  const { bytes: _, ...described } = await pushBlob(
    registry,
    repository,
    Buffer.from(JSON.stringify(config)),
  )
  const mediaType = layerType ?? (isDocker ? DOCKER_LAYER : `${OCI_LAYER}+gzip`)
  const listed = []
  for (const layer of layers) {
    const { digest, size } = await pushBlob(registry, repository, layer)
    listed.push({
      mediaType,
      digest,
      size,
      ...(layerAnnotations && { annotations: layerAnnotations }),
    })
  }
  return {
    schemaVersion: 2,
    mediaType: isDocker ? DOCKER_MANIFEST : 'application/vnd.oci.image.manifest.v1+json',
    config: { ...described, mediaType: isDocker ? DOCKER_CONFIG : OCI_CONFIG },
    layers: listed,
    ...(annotations && { annotations }),
  }
}
