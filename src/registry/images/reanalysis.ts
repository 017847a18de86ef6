import { type Repeating, startRepeating } from '../../async/loop.ts'
import type { Database } from '../../db/database.ts'
import { listUnanalyzed, markAnalyzed, type UnanalyzedManifest } from '../../db/images/images.ts'
import { RegistryError } from '../../oci/errors.ts'
import { parseManifest } from '../../oci/manifest.ts'
import { ANALYZER_VERSION } from '../../unikernel/layer-analysis.ts'
import { type ImageAnalysis, type ImageAnalyzer, recordImage } from './analyzer.ts'

// A manifest waits for this at most after a store did not answer.
const REPEAT_SECONDS = 60
// Manifests in memory at once: each may have 8 MiB.
const BATCH_MAX = 4
// One that cannot be looked at, such as one whose bytes are missing, must not hold up those behind it.
const LEFT_MILLISECONDS = 3_600_000
const LEFT_MAX = 1_000

/** What one round did. */
export type ReanalysisResult = {
  readonly manifests: number
  readonly images: number
  /** Those that would be refused today; they stay, and are known as no images. */
  readonly refused: number
}

/** Manifests that could not be looked at, by id, and until when they are left alone. */
type Left = Map<number, number>

type Round = ReanalysisResult & {
  /** Of those that were left now. */
  readonly errors: readonly Error[]
  readonly isLast: boolean
}

/**
 * Looks at some manifests that were pushed before this reader was made: what they are is asked for
 * like of new ones. A manifest that was looked at by two processes at once is the same after both.
 */
async function reindexSome(db: Database, reader: ImageAnalyzer, left: Left): Promise<Round> {
  const now = performance.now()
  for (const [id, until] of left) if (until <= now) left.delete(id)
  const rows = await listUnanalyzed(db, ANALYZER_VERSION, [...left.keys()], BATCH_MAX)
  const errors: Error[] = []
  let images = 0
  let refused = 0
  for (const row of rows) {
    try {
      const reading = await reindex(db, reader, row)
      if (reading === undefined) refused += 1
      else if (reading.image !== undefined) images += 1
    } catch (cause) {
      const isAway = cause instanceof RegistryError && cause.code === 'UNAVAILABLE'
      if (isAway || left.size === LEFT_MAX) throw cause
      left.set(row.id, now + LEFT_MILLISECONDS)
      errors.push(new Error(`${row.repository}@${row.digest} cannot be looked at`, { cause }))
    }
  }
  const manifests = rows.length - errors.length
  return { manifests, images, refused, errors, isLast: rows.length === 0 }
}

async function reindex(
  db: Database,
  reader: ImageAnalyzer,
  row: UnanalyzedManifest,
): Promise<ImageAnalysis | undefined> {
  const reading = await readAgain(reader, row)
  await db.transaction(async (tx) => {
    await markAnalyzed(tx, row.id, ANALYZER_VERSION, reading?.image !== undefined)
    if (reading !== undefined) await recordImage(tx, row.repositoryId, row.digest, reading)
  })
  return reading
}

/** Looks at all that was not looked at, in the background, and again when that failed. */
export function startReanalysis(
  db: Database,
  reader: ImageAnalyzer,
  onDone: (reindexed: ReanalysisResult) => void,
  onError: (error: unknown) => void,
): Repeating {
  const left: Left = new Map()
  const work = async (goOn: () => boolean): Promise<void> => {
    let total: ReanalysisResult = { manifests: 0, images: 0, refused: 0 }
    while (goOn()) {
      const { manifests, images, refused, errors, isLast } = await reindexSome(db, reader, left)
      for (const error of errors) onError(error)
      if (isLast) break
      total = {
        manifests: total.manifests + manifests,
        images: total.images + images,
        refused: total.refused + refused,
      }
    }
    if (total.manifests > 0) onDone(total)
  }
  return startRepeating(REPEAT_SECONDS, work, onError)
}

async function readAgain(
  reader: ImageAnalyzer,
  row: UnanalyzedManifest,
): Promise<ImageAnalysis | undefined> {
  try {
    return await reader.analyze(row.repository, parseManifest(row.bytes, row.mediaType))
  } catch (error) {
    // It was taken when less was asked of it. A store that does not answer is another matter.
    if (error instanceof RegistryError && error.code === 'MANIFEST_INVALID') return undefined
    throw error
  }
}
