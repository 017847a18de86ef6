import { readFileSync } from 'node:fs'
import type { Digest } from '../../src/oci/digest.ts'
import { parseManifest } from '../../src/oci/manifest.ts'
import { IMAGE_MANIFEST } from '../../src/oci/media-type.ts'
import { type AnalysisLookup, assembleImage } from '../../src/unikernel/assembly.ts'
import { imageManifest, type Role } from '../../src/unikernel/format.ts'
import type { UnikernelImage } from '../../src/unikernel/image.ts'
import {
  type AnalyzedRole,
  analyzeBlob,
  isAnalyzedRole,
  type LayerAnalysis,
} from '../../src/unikernel/layer-analysis.ts'
import { digestOf } from '../support/digest.ts'

const FILES: Partial<Record<Role, string>> = {
  kernel: 'bin/hello-key.hvt',
  'opam-switch': 'opam-switch',
  'system-packages': 'system-packages',
  'build-environment': 'build-environment',
  'build-hashes': 'hello-key.build-hashes',
  debug: 'hello-key.hvt.debug',
}

/** An image of a build of the fixtures, but for what is replaced or, with null, left out. */
export async function fixtureImage(
  build: string,
  replaced: Partial<Record<Role, Buffer | string | null>> = {},
): Promise<UnikernelImage> {
  const facts = new Map<string, LayerAnalysis>()
  const files = []
  for (const role of new Set([...Object.keys(FILES), ...Object.keys(replaced)]) as Set<Role>) {
    const other = replaced[role]
    if (other === null) continue
    const path = new URL(`../fixtures/builds/${build}/${FILES[role]}`, import.meta.url)
    const bytes = other === undefined ? readFileSync(path) : Buffer.from(other as string)
    const digest = digestOf(bytes) as Digest
    const read = async (start: number, end: number) => bytes.subarray(start, end + 1)
    if (isAnalyzedRole(role)) {
      facts.set(`${role} ${digest}`, await analyzeBlob(role, { digest, size: bytes.length, read }))
    }
    const title = (FILES[role] ?? role).replace('bin/', '')
    files.push({ role, title, digest, size: bytes.length })
  }
  const bytes = imageManifest({ files, config: undefined, created: '2020-05-10T19:14:47Z' })
  const findFacts: AnalysisLookup = <R extends AnalyzedRole>(digest: Digest, role: R) =>
    facts.get(`${role} ${digest}`) as LayerAnalysis<R> | undefined
  const image = assembleImage(parseManifest(bytes, IMAGE_MANIFEST), findFacts)
  if (image === undefined) throw new Error(`${build} has no kernel`)
  return image
}
