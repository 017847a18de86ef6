import { readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import {
  compareSourceHash,
  type ImageSource,
  readSourceImage,
  type SourceImage,
} from '../../client/image-source.ts'
import type { LocalBlob } from '../../client/push.ts'
import { EMPTY_JSON } from '../../oci/descriptor.ts'
import { type Digest, digestOf } from '../../oci/digest.ts'
import { type Manifest, parseManifest } from '../../oci/manifest.ts'
import { IMAGE_MANIFEST } from '../../oci/media-type.ts'
import { parseBuildClaims } from '../../unikernel/build-claims.ts'
import { CONFIG_BYTES_MAX, MalformedConfigError, parseConfig } from '../../unikernel/config.ts'
import {
  CLAIMS,
  createdTime,
  failedBuildManifest,
  type ImageFile,
  imageManifest,
} from '../../unikernel/format.ts'
import { describeHost } from '../../unikernel/host/build-environment.ts'
import { analyzeBlob } from '../../unikernel/layer-analysis.ts'
import { assertBuildHash, validateImage } from '../../unikernel/validation.ts'
import { CommandError, reasonOf } from '../errors.ts'
import { visible } from '../printing.ts'
import { hashFile, readFileWithProgress } from './hash-file.ts'
import { type OrbFile, rangesOf } from './orb-folder.ts'

/** An image of local files, as a push sends it. */
export type LocalImage = SourceImage & {
  readonly blobs: readonly LocalBlob[]
  readonly bytes: Uint8Array
  readonly digest: Digest
  readonly manifest: Manifest
  readonly store: ImageSource
}

export type LocalImageRequest = {
  readonly files: readonly OrbFile[]
  /** Its path. */
  readonly config?: string | undefined
  /** The target that the pusher declares for the kernel. */
  readonly target?: string | undefined
  /** RFC 3339; undefined: SOURCE_DATE_EPOCH of the build. */
  readonly created?: string | undefined
}

/**
 * Reads files, makes the manifest of their image, and validates it as a Rookery does. Throws CommandError
 * for an unreadable file, and MANIFEST_INVALID for a contradiction.
 */
export async function readLocalImage(request: LocalImageRequest): Promise<LocalImage> {
  const files = await hashAll(request.files)
  const config = request.config === undefined ? undefined : await configBlob(request.config)
  const created = request.created ?? (await sourceTime(files))
  const bytes = imageManifest({
    files: files.map(({ role, title, digest, size }) => ({ role, title, digest, size })),
    config: config && { digest: config.digest, size: config.size },
    created,
    ...(request.target === undefined ? {} : { annotations: { [CLAIMS.target]: request.target } }),
  })
  const blobs: LocalBlob[] = [...files.map(blobOf), config ?? EMPTY]
  const manifest = parseManifest(bytes, IMAGE_MANIFEST)
  const store = storeOf(blobs)
  const read = await readSourceImage(manifest, store)
  validateImage(manifest, read.image, read.lookup)
  const hash = read.image && (await compareSourceHash(read.image, store))
  if (hash !== undefined) assertBuildHash(hash)
  return { ...read, blobs, bytes, digest: digestOf(bytes), manifest, store }
}

/** The report of a failed build. */
export type LocalFailedBuild = Pick<LocalImage, 'blobs' | 'bytes' | 'digest'>

/**
 * Reads the files of a failed build, and makes the manifest of its report. Throws CommandError for an unreadable file, and
 * MANIFEST_INVALID for annotations that contradict each other.
 */
export async function readFailedBuild(report: {
  readonly files: readonly OrbFile[]
  readonly annotations: Readonly<Record<string, string>>
  readonly created: string | undefined
}): Promise<LocalFailedBuild> {
  const { files, annotations } = report
  const hashedFiles = await hashAll(files)
  const bytes = failedBuildManifest({
    files: hashedFiles.map(({ role, title, digest, size }) => ({ role, title, digest, size })),
    config: undefined,
    created: report.created ?? (await sourceTime(hashedFiles)),
    annotations,
  })
  parseBuildClaims(parseManifest(bytes, IMAGE_MANIFEST))
  return { bytes, digest: digestOf(bytes), blobs: [...hashedFiles.map(blobOf), EMPTY] }
}

type HashedFile = ImageFile & { readonly path: string }

async function hashAll(files: readonly OrbFile[]): Promise<HashedFile[]> {
  const found: HashedFile[] = []
  for (const { role, path } of files) {
    found.push({ role, path, title: basename(path), ...(await hashed(path)) })
  }
  return found
}

function blobOf({ path, title, digest, size }: HashedFile): LocalBlob {
  return { digest, size, title, from: { path } }
}

const EMPTY: LocalBlob = {
  digest: digestOf(EMPTY_JSON),
  size: EMPTY_JSON.length,
  title: 'the empty config',
  from: { bytes: EMPTY_JSON },
}

async function hashed(path: string): Promise<{ digest: Digest; size: number }> {
  try {
    // A pipe could not be read a second time.
    if (!(await stat(path)).isFile()) throw new Error('it is not a regular file')
    return await hashFile(path)
  } catch (cause) {
    throw unreadable(path, cause)
  }
}

async function configBlob(path: string): Promise<LocalBlob> {
  try {
    const { size } = await stat(path)
    if (size > CONFIG_BYTES_MAX) {
      throw new CommandError(
        `${visible(path)} has ${size} bytes; a config has at most ${CONFIG_BYTES_MAX}`,
      )
    }
    const bytes = await readFile(path)
    parseConfig(bytes)
    return { digest: digestOf(bytes), size: bytes.length, title: 'the config', from: { bytes } }
  } catch (error) {
    if (error instanceof CommandError) throw error
    if (!(error instanceof MalformedConfigError)) throw unreadable(path, error)
    throw new CommandError(`${visible(path)} is not a unikernel config: ${error.message}`, {
      cause: error,
    })
  }
}

/** SOURCE_DATE_EPOCH of the build environment, as a time. */
async function sourceTime(files: readonly HashedFile[]): Promise<string> {
  const file = files.find(({ role }) => role === 'build-environment')
  if (file === undefined) return createdTime(undefined)
  const { digest, size, path } = file
  const { value } = await analyzeBlob('build-environment', { digest, size, read: rangesOf(path) })
  const environment = value !== undefined && 'variables' in value ? value : undefined
  return createdTime(environment && describeHost(environment).sourceDateEpoch)
}

function storeOf(blobs: readonly LocalBlob[]): ImageSource {
  const blobOfDigest = (digest: Digest) => {
    const blob = blobs.find((one) => one.digest === digest)
    if (blob === undefined) throw new Error(`${digest} is not a part of this image`)
    return blob
  }
  return {
    rangeOf({ digest }) {
      const { from } = blobOfDigest(digest)
      if ('path' in from) return rangesOf(from.path)
      return async (start, end) => from.bytes.subarray(start, end + 1)
    },
    async open(digest) {
      const { from, size } = blobOfDigest(digest)
      return 'path' in from ? readFileWithProgress(from.path, size) : toAsync(from.bytes)
    },
  }
}

async function* toAsync(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

function unreadable(path: string, error: unknown): CommandError {
  return new CommandError(`${visible(path)} cannot be read: ${reasonOf(error)}`, { cause: error })
}
