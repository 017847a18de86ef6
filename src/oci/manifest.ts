import {
  assertContentType,
  type Descriptor,
  invalidManifest,
  isObject,
  type JsonObject,
  parseDescriptor,
} from './descriptor.ts'
import { type Digest, shortened } from './digest.ts'
import { RegistryError } from './errors.ts'
import { findDirectionProblem, findHiddenProblem } from './hidden-characters.ts'
import { findJsonExcess } from './json-bounds.ts'
import {
  DOCKER_MANIFEST,
  DOCKER_MANIFEST_LIST,
  IMAGE_INDEX,
  IMAGE_MANIFEST,
  isDockerSchema1Type,
  isImageType,
  isManifestType,
  isMediaType,
  isNondistributable,
  type MediaType,
  parseContentType,
} from './media-type.ts'

// The spec requires a limit of at least 4 MiB ("Pushing Manifests").
export const MANIFEST_BYTES_MAX = 8 * 1024 * 1024
// Each edge is a row. The largest real indexes and artifacts have some hundreds.
export const MANIFEST_EDGES_MAX = 2_000
// To parse more blocks the process. A descriptor has some 10 values, and real manifests nest 6 levels deep.
const MANIFEST_JSON_BOUNDS = {
  depthMax: 64,
  valuesMax: 50_000,
  plainBytesMax: 2 * 1024 * 1024,
}
// Real manifests have some tens.
export const ANNOTATIONS_MAX = 1_000

/** A layer, and the file name under which clients save it. */
export type Layer = Descriptor & { readonly title: string | undefined }

/** The entry of an index for one of its manifests: image spec, "OCI Image Index". */
export type Child = Descriptor & {
  readonly platform:
    | { readonly os: string; readonly architecture: string; readonly variant: string | undefined }
    | undefined
}

/** The fields of a manifest that a registry needs. */
export type Manifest = {
  readonly mediaType: MediaType
  /** As in the list of referrers: its own, or else the media type of the config. An index has only its own. */
  readonly artifactType: string | undefined
  readonly subject: Descriptor | undefined
  readonly annotations: Readonly<Record<string, string>> | undefined
  /** True for Docker's schema 1, by its media type or by its content. */
  readonly isDockerSchema1: boolean
  /** Only in an image manifest. */
  readonly config: Descriptor | undefined
  /** Only in an image manifest: all layers, in order. */
  readonly layers: readonly Layer[]
  /** Blobs that the repository must contain. */
  readonly blobs: readonly Descriptor[]
  /** Child manifests that the repository must contain. */
  readonly children: readonly Child[]
  /** Entries of an index of another type: each must be a manifest or a blob of the repository, as in BuildKit's cache. */
  readonly otherEntries: readonly Descriptor[]
  /** Digests in a manifest of an unknown media type: garbage collection keeps their blobs; they may be missing. */
  readonly mentioned: readonly Digest[]
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Parses the fields of a manifest that the registry needs, and ignores other fields. An unknown media
 * type is never an error. Throws MANIFEST_INVALID that names the field.
 */
export function parseManifest(bytes: Uint8Array, contentType: string | undefined): Manifest {
  const body = parseJson(bytes)
  const mediaType = mediaTypeOf(body, contentType)
  // Old clients send it as application/json.
  const isDockerSchema1 =
    isDockerSchema1Type(mediaType) || (body?.schemaVersion === 1 && body.fsLayers !== undefined)
  if (body?.manifests != null && body.layers != null) {
    throw invalidManifest('manifests', 'and layers must not be in one manifest')
  }
  if (mediaType === IMAGE_MANIFEST || mediaType === DOCKER_MANIFEST) {
    return { mediaType, isDockerSchema1, ...claims(present(body)), ...imageManifest(present(body)) }
  }
  if (mediaType === IMAGE_INDEX || mediaType === DOCKER_MANIFEST_LIST) {
    return { mediaType, isDockerSchema1, ...claims(present(body)), ...imageIndex(present(body)) }
  }
  return { mediaType, isDockerSchema1, ...unknownManifest(body) }
}

/**
 * Checks the parts of a pushed manifest that people and browsers see. Throws MANIFEST_INVALID for a media
 * type that is not an `application/vnd.…` or JSON type, for Docker's schema 1, for an annotation that changes the direction of text,
 * and for a title or the name of an annotation that also has invisible characters.
 */
export function assertPresentable(manifest: Manifest): void {
  const { mediaType, annotations, layers } = manifest
  if (!isManifestType(mediaType)) {
    const rule = `must be application/vnd.… or end in +json, for example ${IMAGE_MANIFEST}, not ${shortened(mediaType)}`
    throw invalidManifest('mediaType', rule, mediaType)
  }
  if (manifest.isDockerSchema1) {
    const rule = `is Docker's schema 1, whose images no client can pull by digest: push ${IMAGE_MANIFEST}, or ${DOCKER_MANIFEST}`
    throw invalidManifest('mediaType', rule, mediaType)
  }
  for (const [key, value] of Object.entries(annotations ?? {})) {
    const find = key === TITLE ? findHiddenProblem : findDirectionProblem
    const problem = findHiddenProblem(key) ?? find(value)
    if (problem !== undefined) throw invalidManifest(`annotations[${key.slice(0, 80)}]`, problem)
  }
  layers.forEach(({ title = '' }, index) => {
    const problem = findHiddenProblem(title)
    if (problem !== undefined) {
      throw invalidManifest(`layers[${index}].annotations[${TITLE}]`, problem)
    }
  })
}

type Claims = Pick<Manifest, 'subject' | 'annotations'>

function claims(body: JsonObject): Claims {
  return {
    subject: body.subject == null ? undefined : parseDescriptor(body.subject, 'subject'),
    annotations: annotationsOf(body),
  }
}

/** Reads the fields that look like those of an image manifest, and ignores the others. */
function unknownManifest(
  body: JsonObject | undefined,
): Omit<Manifest, 'mediaType' | 'isDockerSchema1'> {
  const lenient = <T>(read: (body: JsonObject) => T): T | undefined => {
    try {
      return body === undefined ? undefined : read(body)
    } catch {
      // An unknown media type may use the same names for other content.
      return undefined
    }
  }
  return {
    subject: lenient((it) => claims({ subject: it.subject }).subject),
    annotations: lenient(annotationsOf),
    artifactType: lenient(artifactTypeOf),
    config: undefined,
    layers: [],
    blobs: [],
    children: [],
    otherEntries: [],
    mentioned: mentionedIn(body),
  }
}

const BRACE = 0x7b
const SPACE = 0x20

/** Throws MANIFEST_INVALID for an object that is too deep or has too many values. */
function parseJson(bytes: Uint8Array): JsonObject | undefined {
  if (firstByte(bytes) !== BRACE) return undefined
  const excess = findJsonExcess(bytes, MANIFEST_JSON_BOUNDS)
  if (excess !== undefined) throw invalidManifest('body', excess)
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes))
    return isObject(value) ? value : undefined
  } catch {
    // A manifest of an unknown media type need not be JSON.
    return undefined
  }
}

/** Returns the first byte after spaces and line ends. */
function firstByte(bytes: Uint8Array): number | undefined {
  let at = 0
  while (at < bytes.length && (bytes[at] ?? 0) <= SPACE) at += 1
  return bytes[at]
}

function present(body: JsonObject | undefined): JsonObject {
  if (body === undefined) throw invalidManifest('body', 'must be a JSON object in UTF-8')
  return body
}

function mediaTypeOf(body: JsonObject | undefined, contentType: string | undefined): MediaType {
  const inside = body?.mediaType
  if (inside != null && (typeof inside !== 'string' || !isMediaType(inside))) {
    throw invalidManifest('mediaType', 'must be a media type', inside)
  }
  const outside = contentType === undefined ? undefined : parseContentType(contentType)
  if (outside !== undefined && inside != null && outside !== inside) {
    throw new RegistryError(
      'MANIFEST_INVALID',
      { 'Content-Type': outside, mediaType: inside },
      { message: `Content-Type is ${outside} but the manifest's mediaType is ${inside}` },
    )
  }
  const mediaType = outside ?? (inside as MediaType | null | undefined)
  if (mediaType == null) {
    throw new RegistryError(
      'MANIFEST_INVALID',
      { 'Content-Type': null },
      { message: `Content-Type is missing; send for example ${IMAGE_MANIFEST}` },
    )
  }
  return mediaType
}

function annotationsOf(body: JsonObject): Record<string, string> | undefined {
  const annotations = body.annotations
  if (annotations == null) return undefined
  if (!isObject(annotations)) throw invalidManifest('annotations', 'must be an object')
  const entries = Object.entries(annotations)
  if (entries.length > ANNOTATIONS_MAX) {
    const rule = `has ${entries.length} annotations: at most ${ANNOTATIONS_MAX} are allowed`
    throw invalidManifest('annotations', rule)
  }
  for (const [key, value] of entries) {
    if (typeof value !== 'string')
      throw invalidManifest(`annotations[${key.slice(0, 80)}]`, 'must be text')
  }
  return annotations as Record<string, string>
}

function artifactTypeOf(body: JsonObject): string | undefined {
  const artifactType = body.artifactType
  if (artifactType == null || artifactType === '') return undefined
  assertContentType(artifactType, 'artifactType')
  return artifactType
}

type Contents = Pick<
  Manifest,
  'artifactType' | 'config' | 'layers' | 'blobs' | 'children' | 'otherEntries' | 'mentioned'
>

/** Image spec, "OCI Image Manifest"; Docker's schema 2 has the same shape. */
function imageManifest(body: JsonObject): Contents {
  if (body.manifests != null)
    throw invalidManifest('manifests', 'must not be together with config or layers')
  const config = parseDescriptor(body.config, 'config')
  const layers = descriptors(body, 'layers', parseLayer)
  const needed = [config, ...layers].filter(({ mediaType }) => !isNondistributable(mediaType))
  return {
    artifactType: artifactTypeOf(body) ?? config.mediaType,
    config,
    layers,
    blobs: distinct(needed),
    children: [],
    otherEntries: [],
    mentioned: [],
  }
}

/** Image spec, "OCI Image Index"; Docker's manifest list has the same shape. */
function imageIndex(body: JsonObject): Contents {
  for (const field of ['layers', 'config']) {
    if (body[field] != null) throw invalidManifest(field, 'must not be together with manifests')
  }
  const entries = distinct(descriptors(body, 'manifests', parseChild))
  return {
    artifactType: artifactTypeOf(body),
    config: undefined,
    layers: [],
    blobs: [],
    children: entries.filter(({ mediaType }) => isImageType(mediaType)),
    otherEntries: entries.filter(({ mediaType }) => !isImageType(mediaType)),
    mentioned: [],
  }
}

const TITLE = 'org.opencontainers.image.title'

function parseLayer(value: unknown, where: string): Layer {
  const layer = parseDescriptor(value, where)
  const title = isObject(value) && isObject(value.annotations) && value.annotations[TITLE]
  return { ...layer, title: typeof title === 'string' ? title : undefined }
}

function parseChild(value: unknown, where: string): Child {
  const child = parseDescriptor(value, where)
  const platform = isObject(value) && isObject(value.platform) ? value.platform : undefined
  const { os, architecture, variant } = platform ?? {}
  if (typeof os !== 'string' || typeof architecture !== 'string') {
    return { ...child, platform: undefined }
  }
  const checkedVariant = typeof variant === 'string' ? variant : undefined
  return { ...child, platform: { os, architecture, variant: checkedVariant } }
}

function descriptors<T>(
  body: JsonObject,
  field: string,
  parse: (value: unknown, where: string) => T,
): T[] {
  // Go writes an empty list as null.
  const list = body[field] ?? []
  if (!Array.isArray(list)) throw invalidManifest(field, 'must be a list of descriptors')
  if (list.length > MANIFEST_EDGES_MAX) {
    throw invalidManifest(field, `must have at most ${MANIFEST_EDGES_MAX} entries`, list.length)
  }
  return list.map((value, index) => parse(value, `${field}[${index}]`))
}

/** Returns one descriptor per digest. Throws MANIFEST_INVALID when two have different sizes. */
function distinct<T extends Descriptor>(list: readonly T[]): T[] {
  const byDigest = new Map<Digest, T>()
  for (const descriptor of list) {
    const seen = byDigest.get(descriptor.digest)
    if (seen === undefined) byDigest.set(descriptor.digest, descriptor)
    else if (seen.size !== descriptor.size) {
      throw invalidManifest(descriptor.digest, `has two sizes, ${seen.size} and ${descriptor.size}`)
    }
  }
  return [...byDigest.values()]
}

function mentionedIn(body: JsonObject | undefined): Digest[] {
  const digests = new Set<Digest>()
  for (const field of ['config', 'layers', 'blobs', 'manifests']) {
    const value = body?.[field]
    for (const item of Array.isArray(value) ? value.slice(0, MANIFEST_EDGES_MAX) : [value]) {
      try {
        digests.add(parseDescriptor(item, field).digest)
      } catch {
        // Not a descriptor, so there is no blob to keep.
      }
    }
  }
  return [...digests]
}
