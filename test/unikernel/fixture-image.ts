import { readFileSync } from 'node:fs'
import type { Digest } from '../../src/oci/digest.ts'
import { parseManifest } from '../../src/oci/manifest.ts'
import { IMAGE_MANIFEST } from '../../src/oci/media-type.ts'
import { AnalysisCache } from '../../src/unikernel/analysis-cache.ts'
import { imageManifest, type Role } from '../../src/unikernel/format.ts'
import type { UnikernelImage } from '../../src/unikernel/image.ts'
import { readImage } from '../../src/unikernel/read-image.ts'
import { digestOf } from '../support/digest.ts'

const FILES: Partial<Record<Role, string>> = {
  kernel: 'bin/hello-key.hvt',
  'opam-switch': 'opam-switch',
  'system-packages': 'system-packages',
  'build-environment': 'build-environment',
  'build-hashes': 'hello-key.build-hashes',
  debug: 'hello-key.hvt.debug',
}

/**
 * Returns the image of a fixture build. `replaced` files have other bytes, or with null are left
 * out.
 */
export async function fixtureImage(
  build: string,
  replaced: Partial<Record<Role, Buffer | string | null>> = {},
): Promise<UnikernelImage> {
  const blobs = new Map<Digest, Buffer>()
  const files = []
  for (const role of new Set([...Object.keys(FILES), ...Object.keys(replaced)]) as Set<Role>) {
    const other = replaced[role]
    if (other === null) continue
    const path = new URL(`../fixtures/builds/${build}/${FILES[role]}`, import.meta.url)
    const bytes = other === undefined ? readFileSync(path) : Buffer.from(other as string)
    const digest = digestOf(bytes) as Digest
    blobs.set(digest, bytes)
    const title = (FILES[role] ?? role).replace('bin/', '')
    files.push({ role, title, digest, size: bytes.length })
  }
  const bytes = imageManifest({ files, config: undefined, created: '2020-05-10T19:14:47Z' })
  const open = ({ digest, size }: { digest: Digest; size: number }) => ({
    digest,
    size,
    read: async (start: number, end: number) =>
      (blobs.get(digest) as Buffer).subarray(start, end + 1),
  })
  const image = await readImage(parseManifest(bytes, IMAGE_MANIFEST), open, new AnalysisCache())
  if (image === undefined) throw new Error(`${build} has no kernel`)
  return image
}
