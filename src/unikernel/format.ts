import { Buffer } from 'node:buffer'
import { type Descriptor, EMPTY_JSON } from '../oci/descriptor.ts'
import { type Digest, digestOf } from '../oci/digest.ts'
import { IMAGE_MANIFEST, type MediaType, withoutParameters } from '../oci/media-type.ts'

/** The artifact type of a unikernel image. */
export const UNIKERNEL = 'application/vnd.unikernel.v1'
/** The artifact type of the report of a failed build: its console, script and inputs. */
export const FAILED_BUILD = 'application/vnd.unikernel.failed-build.v1'
/** The artifact type of a build that made something else than a unikernel, such as a package. */
export const OTHER_BUILD = 'application/vnd.unikernel.other-build.v1'
/** The media type of a further file of a build. Its title gives it no role. */
export const OTHER_FILE = 'application/vnd.unikernel.file.v1'
/** The media type of the config of a build that builder sent: its exec, with the digest of each file in place of its bytes. */
export const EXEC_CONFIG = 'application/vnd.unikernel.exec.v1'
/** The media type of its config, unless the config is empty. */
export const UNIKERNEL_CONFIG = 'application/vnd.unikernel.config.v1+json'

/** The roles of layers in a unikernel image, in the order of the layers. */
export const ROLES = [
  'kernel',
  'opam-switch',
  'opam-lock',
  'system-packages',
  'build-environment',
  'build-hashes',
  'debug',
  'console',
  'script',
  'readme',
] as const
export type Role = (typeof ROLES)[number]

/** The layers that describe the inputs of the build. Together they make the input id. */
export const INPUTS = ['opam-switch', 'build-environment', 'system-packages'] as const
export type Input = (typeof INPUTS)[number]

export const TITLE = 'org.opencontainers.image.title'
export const CREATED = 'org.opencontainers.image.created'
/** The time of an image whose inputs have none: the start of 1970, as in reproducible builds. */
export const NO_TIME = '1970-01-01T00:00:00Z'

/**
 * Annotations of a manifest that claim properties of its kernel. Each is optional, and is
 * validated.
 */
export const CLAIMS = {
  target: 'vnd.unikernel.target',
  abi: 'vnd.unikernel.abi',
  architecture: 'vnd.unikernel.architecture',
  devices: 'vnd.unikernel.devices',
  kernel: 'vnd.unikernel.kernel.digest',
  inputId: 'vnd.unikernel.input-id',
} as const

/** The file of a project that says what it is. */
export const README = 'README.md'

/** Annotations of the image of a kernel that Rookery found in a container image. */
export const UNWRAPPED = {
  path: 'vnd.unikernel.unwrapped.path',
  layer: 'vnd.unikernel.unwrapped.layer',
} as const

/** Returns the media type of a layer with this role. */
export function mediaTypeOf(role: Role): MediaType {
  return `application/vnd.unikernel.${role}.v1` as MediaType
}

const ROLE_BY_MEDIA_TYPE: ReadonlyMap<string, Role> = new Map(
  ROLES.map((role) => [mediaTypeOf(role), role]),
)

/** Finds the role that a layer's media type declares. */
export function findDeclaredRole(mediaType: string): Role | undefined {
  return ROLE_BY_MEDIA_TYPE.get(withoutParameters(mediaType))
}

/** Finds the role of a layer: the one that its media type declares, or else that of its title. */
export function findRole(mediaType: string, title: string | undefined): Role | undefined {
  if (mediaType === OTHER_FILE) return undefined
  return findDeclaredRole(mediaType) ?? (title === undefined ? undefined : findRoleOfTitle(title))
}

/** The end of the name of a lock file of opam or opam-monorepo. */
export const LOCK_ENDING = '.opam.locked'

/** Finds the role of a file by the name that orb, opam and opam-monorepo give it. */
function findRoleOfTitle(title: string): Role | undefined {
  const name = baseName(title)
  const same = INPUTS.find((input) => input === name)
  if (same !== undefined) return same
  if (name.endsWith('.build-hashes')) return 'build-hashes'
  if (name === README) return 'readme'
  if (name.endsWith(LOCK_ENDING)) return 'opam-lock'
  return name.endsWith('.debug') ? 'debug' : undefined
}

/** Returns the last component of a path. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** A file that becomes a layer. */
export type ImageFile = {
  readonly role: Role
  /** Clients save the file under this name. */
  readonly title: string
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
}

/** The contents of an image. */
export type ImageContents = {
  /** In any order. */
  readonly files: readonly ImageFile[]
  /** Files without a role, in this order. */
  readonly others?: readonly Omit<ImageFile, 'role'>[]
  /** Undefined: the empty config. Without a media type, that of a unikernel. */
  readonly config: (Pick<Descriptor, 'digest' | 'size'> & { mediaType?: string }) | undefined
  /** RFC 3339. */
  readonly created: string
  /** Further annotations of the manifest. */
  readonly annotations?: Readonly<Record<string, string>>
  /** The image that it belongs to. */
  readonly subject?: Pick<Descriptor, 'mediaType' | 'digest' | 'size'>
}

/**
 * Makes the manifest of a unikernel image: byte for byte that of `oras push` with the same files in
 * the order of ROLES and the same time (spec/unikernel-image.md, "Building an image").
 */
export function imageManifest(image: ImageContents): Uint8Array {
  return manifestOf(UNIKERNEL, image)
}

/** Makes the manifest of the report of a failed build: like that of an image, without a kernel. */
export function failedBuildManifest(report: ImageContents): Uint8Array {
  return manifestOf(FAILED_BUILD, report)
}

/** Makes the manifest of a build that made something else: its main binary is the first of `others`. */
export function otherBuildManifest(build: ImageContents): Uint8Array {
  return manifestOf(OTHER_BUILD, build)
}

function manifestOf(
  artifactType: string,
  { files, others = [], config, created, subject, annotations = {} }: ImageContents,
): Uint8Array {
  const ordered = files.toSorted((a, b) => ROLES.indexOf(a.role) - ROLES.indexOf(b.role))
  const manifest = {
    schemaVersion: 2,
    mediaType: IMAGE_MANIFEST,
    artifactType,
    config: config === undefined ? EMPTY_CONFIG : { mediaType: UNIKERNEL_CONFIG, ...config },
    layers: [
      ...ordered.map(({ role, ...file }) => ({ mediaType: mediaTypeOf(role), ...file })),
      ...others.map((file) => ({ mediaType: OTHER_FILE, ...file })),
    ].map(({ mediaType, title, digest, size }) => ({
      mediaType,
      digest,
      size,
      annotations: { [TITLE]: title },
    })),
    ...(subject === undefined ? {} : { subject }),
    // In the order of names, as Go writes a map.
    annotations: Object.fromEntries(
      Object.entries({ ...annotations, [CREATED]: created }).toSorted(([a], [b]) =>
        a < b ? -1 : 1,
      ),
    ),
  }
  return Buffer.from(goJson(manifest))
}

const EMPTY_CONFIG = {
  mediaType: 'application/vnd.oci.empty.v1+json',
  digest: digestOf(EMPTY_JSON),
  size: EMPTY_JSON.length,
  data: Buffer.from(EMPTY_JSON).toString('base64'),
}

/**
 * Formats JSON as Go's `json.Marshal` does, which escapes characters that are special in HTML or
 * JavaScript.
 */
function goJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/**
 * Returns the time to annotate: that of the sources from `SOURCE_DATE_EPOCH` (seconds), or NO_TIME.
 */
export function createdTime(sourceDateEpoch: number | undefined): string {
  if (sourceDateEpoch === undefined) return NO_TIME
  return new Date(sourceDateEpoch * 1000).toISOString().replace(/\.\d+Z$/, 'Z')
}
