import { Buffer } from 'node:buffer'
import { type Descriptor, isObject } from '../../oci/descriptor.ts'
import type { Layer, Manifest } from '../../oci/manifest.ts'
import { isNondistributable, withoutParameters } from '../../oci/media-type.ts'
import { isTime } from '../time.ts'

/** The media types of the configs of container images. */
const CONTAINER_CONFIGS = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
]
/** The media types of layers that are file systems: OCI's with any compression, and Docker's. */
const FILE_SYSTEM =
  /^application\/vnd\.(?:oci\.image\.layer\.v1\.tar|docker\.image\.rootfs\.diff\.tar)(?:[.+][a-z0-9]+)?$/
/** Real configs have some KB. */
export const CONTAINER_CONFIG_BYTES_MAX = 1024 * 1024

/** The annotation and label of urunc that names the kernel in the file system: a path, or its base64. */
const BINARY = 'com.urunc.unikernel.binary'

/**
 * Lists the layers of a container image that are file systems, the topmost first. Empty for any other manifest. A layer
 * with a title is a file that a client stored under the media type of a layer, as oras does.
 */
export function fileSystemLayers({ config, layers }: Manifest): Layer[] {
  if (config === undefined || !isContainerConfig(config)) return []
  return layers
    .filter(
      ({ mediaType, title }) =>
        title === undefined &&
        FILE_SYSTEM.test(withoutParameters(mediaType)) &&
        !isNondistributable(mediaType),
    )
    .toReversed()
}

function isContainerConfig({ mediaType, size }: Descriptor): boolean {
  return (
    CONTAINER_CONFIGS.includes(withoutParameters(mediaType)) && size <= CONTAINER_CONFIG_BYTES_MAX
  )
}

/** The description of a container image by its builder. */
export type ContainerDescription = {
  /** The paths that it names as its kernel, each as it is and decoded from base64. */
  readonly binaries: readonly string[]
  /** RFC 3339. */
  readonly created: string | undefined
}

/** Reads the description from the manifest and the config. Malformed JSON describes nothing. */
export function describeContainer(manifest: Uint8Array, config: Uint8Array): ContainerDescription {
  const image = parseObject(config)
  const body = parseObject(manifest)
  const runtime = isObject(image.config) ? image.config : {}
  const layers = Array.isArray(body.layers) ? body.layers : []
  const named = [
    body.annotations,
    runtime.Labels,
    ...layers.map((layer: unknown) => (isObject(layer) ? layer.annotations : undefined)),
  ].flatMap((texts) => (isObject(texts) ? [texts[BINARY]] : []))
  const binaries = named.flatMap((text) =>
    typeof text === 'string' && text !== ''
      ? [text, Buffer.from(text, 'base64').toString()].map(withoutSlashes)
      : [],
  )
  const { created } = image
  return {
    binaries: [...new Set(binaries)],
    created: typeof created === 'string' && isTime(created) ? created : undefined,
  }
}

function withoutSlashes(path: string): string {
  return path.trim().replace(/^(?:\.?\/)+/, '')
}

function parseObject(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString())
    return isObject(value) ? value : {}
  } catch {
    return {}
  }
}
