import { Loop } from '../../async/loop.ts'
import type { Database } from '../../db/database.ts'
import { listUnanalyzed, markAnalyzed, type UnanalyzedManifest } from '../../db/images/images.ts'
import { RegistryError } from '../../oci/errors.ts'
import { parseManifest } from '../../oci/manifest.ts'
import { ANALYZER_VERSION } from '../../unikernel/layer-analysis.ts'
import { type ImageAnalysis, type ImageAnalyzer, recordImage } from './analyzer.ts'

// The longest time that a manifest waits after the store did not answer.
const REPEAT_SECONDS = 60
// Manifests in memory at once: each has at most 8 MiB.
const BATCH_MAX = 4
// A manifest that fails, for example because its bytes are missing, must not block those after it.
const SKIPPED_MILLISECONDS = 3_600_000
const SKIPPED_MAX = 1_000

export type ReanalysisResult = {
  readonly manifests: number
  readonly images: number
  /** Manifests that would be refused today; they stay, and are not images. */
  readonly refused: number
}

/** Manifests whose analysis failed: when, in milliseconds, each is tried again, by id. */
type Skipped = Map<number, number>

type Batch = ReanalysisResult & {
  /** One error for each manifest that this batch skipped. */
  readonly errors: readonly Error[]
  readonly isLast: boolean
}

/**
 * Analyzes a batch of the manifests that this analyzer version has not analyzed. Two processes may
 * analyze the same manifest at once: the result is the same.
 */
async function reanalyzeBatch(
  db: Database,
  analyzer: ImageAnalyzer,
  skipped: Skipped,
): Promise<Batch> {
  const now = performance.now()
  for (const [id, until] of skipped) if (until <= now) skipped.delete(id)
  const rows = await listUnanalyzed(db, ANALYZER_VERSION, [...skipped.keys()], BATCH_MAX)
  const errors: Error[] = []
  let images = 0
  let refused = 0
  for (const row of rows) {
    try {
      const analysis = await reanalyze(db, analyzer, row)
      if (analysis === undefined) refused += 1
      else if (analysis.image !== undefined) images += 1
    } catch (cause) {
      const isUnavailable = cause instanceof RegistryError && cause.code === 'UNAVAILABLE'
      if (isUnavailable || skipped.size === SKIPPED_MAX) throw cause
      skipped.set(row.id, now + SKIPPED_MILLISECONDS)
      errors.push(new Error(`${row.repository}@${row.digest} cannot be analyzed`, { cause }))
    }
  }
  const manifests = rows.length - errors.length
  return { manifests, images, refused, errors, isLast: rows.length === 0 }
}

async function reanalyze(
  db: Database,
  analyzer: ImageAnalyzer,
  row: UnanalyzedManifest,
): Promise<ImageAnalysis | undefined> {
  const analysis = await analyzeManifest(analyzer, row)
  await db.transaction(async (tx) => {
    await markAnalyzed(tx, row.id, ANALYZER_VERSION, analysis?.image !== undefined)
    if (analysis !== undefined) await recordImage(tx, row.repositoryId, row.digest, analysis)
  })
  return analysis
}

/** Analyzes all manifests that are not yet analyzed, in the background, and retries after failures. */
export function startReanalysis(
  db: Database,
  analyzer: ImageAnalyzer,
  onDone: (result: ReanalysisResult) => void,
  onError: (error: unknown) => void,
): Loop {
  const skipped: Skipped = new Map()
  const work = async (signal: AbortSignal): Promise<void> => {
    let total: ReanalysisResult = { manifests: 0, images: 0, refused: 0 }
    while (!signal.aborted) {
      const { errors, isLast, ...counts } = await reanalyzeBatch(db, analyzer, skipped)
      for (const error of errors) onError(error)
      if (isLast) break
      total = {
        manifests: total.manifests + counts.manifests,
        images: total.images + counts.images,
        refused: total.refused + counts.refused,
      }
    }
    if (total.manifests > 0) onDone(total)
  }
  return new Loop({ work, onError, everySeconds: REPEAT_SECONDS }).start()
}

async function analyzeManifest(
  analyzer: ImageAnalyzer,
  row: UnanalyzedManifest,
): Promise<ImageAnalysis | undefined> {
  try {
    return await analyzer.analyze(row.repository, parseManifest(row.bytes, row.mediaType), '')
  } catch (error) {
    // The manifest was accepted under earlier rules. A store that does not answer is another case.
    if (error instanceof RegistryError && error.code === 'MANIFEST_INVALID') return undefined
    throw error
  }
}
