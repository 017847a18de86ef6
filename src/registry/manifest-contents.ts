import type { Transaction } from '../db/database.ts'
import { type LockedContents, lockContents } from '../db/registry/manifests.ts'
import { type Descriptor, invalidManifest } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'
import type { Manifest } from '../oci/manifest.ts'
import type { Repository } from '../oci/reference.ts'

/** The digests in a manifest that the repository must have. */
type Contents = Pick<Manifest, 'blobs' | 'children' | 'otherEntries' | 'mentioned'>

/**
 * Locks the blobs and children of the manifest, and the blobs `besides`. Throws MANIFEST_BLOB_UNKNOWN, MANIFEST_INVALID for
 * a wrong size.
 */
export async function lockContentsOf(
  tx: Transaction,
  repository: Repository,
  { blobs, children, otherEntries, mentioned }: Contents,
  besides: readonly Descriptor[] = [],
): Promise<LockedContents> {
  const digests = (needed: readonly Descriptor[]) => needed.map(({ digest }) => digest)
  const ofEitherKind = [...digests(otherEntries), ...mentioned]
  const contents = await lockContents(
    tx,
    repository,
    [...digests(blobs), ...ofEitherKind, ...digests(besides)],
    [...digests(children), ...ofEitherKind],
  )
  assertPresent('blob', blobs, contents.blobs)
  if (!areLocked(besides, contents)) throw blobsRemoved()
  assertPresent('manifest', children, contents.children)
  assertPresent('manifest or blob', otherEntries, [...contents.blobs, ...contents.children])
  return contents
}

function assertPresent(
  kind: 'blob' | 'manifest' | 'manifest or blob',
  needed: readonly Descriptor[],
  rows: readonly { digest: Digest; size: number }[],
): void {
  const sizes = new Map(rows.map(({ digest, size }) => [digest, size]))
  const missing = needed.filter(({ digest }) => !sizes.has(digest)).map(({ digest }) => digest)
  const first = missing[0]
  if (first !== undefined) {
    throw new RegistryError(
      'MANIFEST_BLOB_UNKNOWN',
      { [kind]: missing.slice(0, MISSING_SHOWN_MAX), missing: missing.length },
      { message: `the repository has no ${kind} ${first}: push it before the manifest` },
    )
  }
  for (const { digest, size } of needed) {
    const stored = sizes.get(digest)
    if (stored !== size)
      throw invalidManifest(digest, `says size ${size}, but the ${kind} has ${stored}`)
  }
}

/** True when the repository has all of the blobs. */
export function areLocked(blobs: readonly Descriptor[], contents: LockedContents): boolean {
  const locked = new Set(contents.blobs.map(({ digest }) => digest))
  return blobs.every(({ digest }) => locked.has(digest))
}

/** Leaves out the blobs that were locked besides those of the manifest. */
export function blobsOf(
  { blobs, otherEntries, mentioned }: Manifest,
  contents: LockedContents,
): LockedContents['blobs'] {
  const own = new Set([...[...blobs, ...otherEntries].map(({ digest }) => digest), ...mentioned])
  return contents.blobs.filter(({ digest }) => own.has(digest))
}

/** The error of a push during which another request deleted a blob of the manifest. */
export function blobsRemoved(): RegistryError {
  const message = 'another request deleted a blob of the manifest: push it again'
  return new RegistryError('MANIFEST_BLOB_UNKNOWN', undefined, { message })
}

const MISSING_SHOWN_MAX = 20
