import { Loop } from '../../async/loop.ts'
import type { Database } from '../../db/database.ts'
import { resolveOldLists } from '../../db/images/layer-analyses.ts'
import { AlreadyRunningError } from '../../db/maintenance/jobs.ts'
import { findOpamImport } from '../../db/opam-index/opam-index.ts'
import { type DownloadArchive, type ImportReport, importUrl, isFresh } from './import.ts'

// An archive is downloaded only when it has changed.
const REFRESH_SECONDS = 6 * 3600
const CHECK_SECONDS = 300
const RESOLVE_SECONDS = 10
// Lists of one statement: each has up to some megabytes.
const LISTS_MAX = 8

/**
 * Resolves all lists that were resolved with an older version of the index. Returns their number. Several processes share the
 * work.
 */
export async function resolveLists(db: Database, signal?: AbortSignal): Promise<number> {
  let resolved = 0
  while (signal?.aborted !== true) {
    const count = await resolveOldLists(db, LISTS_MAX)
    if (count === 0) break
    resolved += count
  }
  return resolved
}

/**
 * Resolves lists in the background after each import, also those of pushes that began before its end.
 */
export function startResolution(
  db: Database,
  onDone: (resolved: number) => void,
  onError: (error: unknown) => void,
): Loop {
  const work = async (signal: AbortSignal) => {
    const resolved = await resolveLists(db, signal)
    if (resolved > 0) onDone(resolved)
  }
  return new Loop({ work, onError, everySeconds: RESOLVE_SECONDS }).start()
}

/** Imports the archive of an opam repository from a URL, now and then again. One of several replicas does it. */
export function startIndexRefresh(
  db: Database,
  url: string,
  download: DownloadArchive,
  onDone: (report: ImportReport) => void,
  onError: (error: unknown) => void,
): Loop {
  const work = async () => {
    const last = await findOpamImport(db, url)
    if (last !== undefined && isFresh(last, REFRESH_SECONDS)) return
    try {
      const report = await importUrl(db, url, download, REFRESH_SECONDS)
      if (report !== undefined) onDone(report)
    } catch (error) {
      // Another replica does it.
      if (!(error instanceof AlreadyRunningError)) throw error
    }
  }
  return new Loop({ work, onError, everySeconds: CHECK_SECONDS }).start()
}
