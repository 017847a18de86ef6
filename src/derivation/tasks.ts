import { Buffer } from 'node:buffer'
import type { Digest } from '../oci/digest.ts'
import { visibleJson } from '../oci/hidden-characters.ts'
import { parseManifest } from '../oci/manifest.ts'
import { AnalysisCache } from '../unikernel/analysis-cache.ts'
import { assembleImage } from '../unikernel/assembly.ts'
import { builderWebComparison } from '../unikernel/compare/builder-web.ts'
import { type Comparison, compareImages } from '../unikernel/compare/images.ts'
import { outlineComparison } from '../unikernel/compare/outline.ts'
import {
  describeDependencies,
  describePaths,
  type PathsDescription,
} from '../unikernel/dependencies/description.ts'
import type { DocumentContext } from '../unikernel/documents/context.ts'
import { cycloneDx } from '../unikernel/documents/cyclonedx.ts'
import { describeImage } from '../unikernel/documents/description.ts'
import { outlineImage } from '../unikernel/documents/outline.ts'
import { slsaProvenance } from '../unikernel/documents/slsa.ts'
import { spdx } from '../unikernel/documents/spdx.ts'
import type { UnikernelImage } from '../unikernel/image.ts'
import type { ImagePackage } from '../unikernel/image-packages.ts'
import {
  type AnalyzedRole,
  analyzeBytes,
  type LayerAnalysis,
  type WholeRole,
} from '../unikernel/layer-analysis.ts'
import { MalformedOpamError } from '../unikernel/opam/lexer.ts'
import { listSourceKeys } from '../unikernel/opam/package-file.ts'
import { listPackages } from '../unikernel/package-lists.ts'
import { analysesOf } from '../unikernel/stored-analyses.ts'
import { drawPaths } from './pictures/path-picture.ts'

/** An image as the database has it. */
export type StoredImage = {
  /** The media type of the manifest. */
  readonly mediaType: string
  readonly manifest: Uint8Array
  /** StoredAnalysis[] as JSON. */
  readonly analyses: string
  /** The packages of opam, ImagePackage[] as JSON. */
  readonly packages: string
}

const DOCUMENTS = { cyclonedx: cycloneDx, spdx, slsa: slsaProvenance } as const
export type DocumentFormat = keyof typeof DOCUMENTS

/** JSON to derive from images. */
export type Derivation =
  | { readonly kind: 'description' | 'dependencies'; readonly image: StoredImage }
  | { readonly kind: 'outline'; readonly image: StoredImage; readonly name: string }
  | {
      readonly kind: 'dependency-paths' | 'drawn-dependency-paths'
      readonly image: StoredImage
      readonly package: string
    }
  | {
      readonly kind: 'comparison' | 'comparison-outline' | 'builder-web-comparison'
      readonly from: StoredImage
      readonly to: StoredImage
    }
  | {
      readonly kind: 'document'
      readonly format: DocumentFormat
      readonly image: StoredImage
      readonly context: DocumentContext
    }

/** Derives JSON in UTF-8. */
export function derive(derivation: Derivation): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(visibleJson(objectOf(derivation)))
}

function objectOf(derivation: Derivation): object {
  switch (derivation.kind) {
    case 'description':
      return describeImage(imageOf(derivation.image), packagesOf(derivation.image))
    case 'outline':
      return outlineImage(imageOf(derivation.image), packagesOf(derivation.image), derivation.name)
    case 'dependencies':
      return describeDependencies(imageOf(derivation.image), packagesOf(derivation.image))
    case 'dependency-paths':
      return pathsOf(derivation.image, derivation.package)
    case 'drawn-dependency-paths':
      return drawPaths(pathsOf(derivation.image, derivation.package))
    case 'comparison':
      return comparisonOf(derivation)
    case 'comparison-outline':
      return outlineComparison(
        imageOf(derivation.from),
        imageOf(derivation.to),
        comparisonOf(derivation),
      )
    case 'builder-web-comparison':
      return (
        builderWebComparison(compareImages(imageOf(derivation.from), imageOf(derivation.to))) ?? {}
      )
    case 'document':
      return DOCUMENTS[derivation.format](
        imageOf(derivation.image),
        derivation.context,
        packagesOf(derivation.image),
      )
  }
}

function comparisonOf({ from, to }: { from: StoredImage; to: StoredImage }): Comparison {
  return compareImages(
    imageOf(from),
    imageOf(to),
    Buffer.compare(from.manifest, to.manifest) === 0,
    { from: packagesOf(from), to: packagesOf(to) },
  )
}

function pathsOf(image: StoredImage, name: string): PathsDescription {
  return describePaths(imageOf(image), packagesOf(image), name)
}

function imageOf({ mediaType, manifest, analyses }: StoredImage): UnikernelImage {
  const { find } = new AnalysisCache(analysesOf(JSON.parse(analyses)))
  const image = assembleImage(parseManifest(manifest, mediaType), find)
  if (image === undefined) throw new Error('the analysis of an image is missing')
  return image
}

function packagesOf({ packages }: StoredImage): readonly ImagePackage[] {
  return JSON.parse(packages)
}

/** The bytes of a blob to analyze as one role. */
export type AnalysisTask = {
  readonly kind: 'analysis'
  readonly role: WholeRole
  readonly digest: Digest
  readonly bytes: Uint8Array
}

/** The analysis of a blob, and its fields for the database as JSON. */
export type AnalysisRecord = { readonly analysis: LayerAnalysis; readonly fields: string }

// Every reader of an image loads its facts. The facts of the largest real lists have half a megabyte.
const FACTS_CHARACTERS_MAX = 4 * 1024 * 1024
// The values of the other roles that are read whole are large, and a push does not need them. The build environment names
// the platform of the build.
const NEEDED: readonly AnalyzedRole[] = ['build-environment', 'build-hashes', 'config']

/** Analyzes a blob. Its value is undefined when only the database needs it. */
export function analyze({ role, digest, bytes }: AnalysisTask): AnalysisRecord {
  const { analysis, fields } = recordOf(role, analyzeBytes(role, digest, bytes))
  const value = NEEDED.includes(role) ? analysis.value : undefined
  return { analysis: { ...analysis, value }, fields }
}

/** Formats an analysis for the database. Facts that are too long are a problem instead. */
export function recordOf(role: AnalyzedRole, analysis: LayerAnalysis): AnalysisRecord {
  const { sha256, problem, value, summary } = analysis
  const facts = value === undefined ? undefined : JSON.stringify(value)
  if (facts !== undefined && facts.length > FACTS_CHARACTERS_MAX) {
    const excess = `its facts have ${facts.length} characters; at most ${FACTS_CHARACTERS_MAX} are kept`
    return recordOf(role, { sha256, problem: excess, value: undefined })
  }
  const fields = {
    role,
    sha256,
    // Postgres takes neither NUL nor half a surrogate pair in text; JSON in text has them escaped.
    problem: problem && Buffer.from(problem).toString().replaceAll('\0', '\ufffd'),
    facts,
    summary: summary === undefined ? undefined : JSON.stringify(summary),
    ...listPackages(role, analysis),
  }
  return { analysis, fields: JSON.stringify(fields) }
}

/** The `opam` files of packages. */
export type OpamFilesTask = { readonly kind: 'opam-files'; readonly files: readonly Uint8Array[] }

/** The keys of a package's source, or the reason why its file could not be parsed. */
export type OpamFileKeys = {
  readonly keys: readonly string[]
  readonly problem: string | undefined
}

/** Lists the keys of each file's source, in the order of the files. */
export function readOpamFiles({ files }: OpamFilesTask): OpamFileKeys[] {
  return files.map((file) => {
    try {
      return { keys: listSourceKeys(file), problem: undefined }
    } catch (error) {
      if (!(error instanceof MalformedOpamError)) throw error
      return { keys: [], problem: error.message }
    }
  })
}
