import { createHash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Database } from '../../db/database.ts'
import { runExclusively } from '../../db/maintenance/jobs.ts'
import {
  findOpamImport,
  listOpamFiles,
  type OpamFileRow,
  type OpamImportRow,
  type OpamSourceRow,
  putOpamImport,
  touchOpamImport,
} from '../../db/opam-index/opam-index.ts'
import { OpamFileParser } from '../../derivation/opam-file-parser.ts'
import {
  NoOpamRepositoryError,
  PACKAGE_FILES_MAX,
  type PackageFile,
  packageFilesIn,
  type ReadPackageFiles,
} from './package-files.ts'

// Files that the index keeps the hashes of: those of some imports.
const KEPT_FILES_MAX = 5 * PACKAGE_FILES_MAX
const BATCH_FILES_MAX = 500
const BATCH_BYTES_MAX = 2 * 1024 * 1024
const SLICE_MILLISECONDS_MAX = 5
const PROBLEMS_SHOWN_MAX = 10
const JOB = 'an import of an opam repository'

export type ImportReport = {
  /** The packages, each version once. */
  readonly files: number
  /** New or changed ones. */
  readonly read: number
  /** New checksums, commits and URLs. */
  readonly sources: number
  /** Files that could not be read. */
  readonly problems: number
  /** The first of them, one line each. */
  readonly shown: readonly string[]
}

/**
 * Adds the packages of an opam repository to the index. Files that an earlier import has read cost a hash. Nothing is
 * removed: an archive stays that of its package. Throws AlreadyRunningError, NoOpamRepositoryError, and what `read` throws.
 */
export function importPackages(
  db: Database,
  origin: string,
  read: ReadPackageFiles,
  etag?: string,
): Promise<ImportReport> {
  return runExclusively(db, JOB, () => importFiles(db, origin, read, etag))
}

/** An archive that a server sent. */
export type DownloadedArchive = { readonly body: Buffer; readonly etag: string | undefined }

/** Downloads an archive; undefined when it is still that of `etag`. */
export type DownloadArchive = (
  url: string,
  etag: string | undefined,
) => Promise<DownloadedArchive | undefined>

/**
 * Downloads an archive and imports it. Undefined when it has not changed since the last import, or when that was checked
 * within `freshSeconds`. Throws like `importPackages`, and what `download` throws.
 */
export function importUrl(
  db: Database,
  url: string,
  download: DownloadArchive,
  freshSeconds = 0,
): Promise<ImportReport | undefined> {
  return runExclusively(db, JOB, async () => {
    const last = await findOpamImport(db, url)
    if (last !== undefined && isFresh(last, freshSeconds)) return undefined
    const found = await download(url, last?.etag ?? undefined)
    if (found !== undefined) {
      return importFiles(db, url, packageFilesIn(slicesOf(found.body)), found.etag)
    }
    await touchOpamImport(db, url)
    return undefined
  })
}

/** False for a check in the future: the clock of the database was ahead. */
export function isFresh(
  { checkedAgo }: Pick<OpamImportRow, 'checkedAgo'>,
  seconds: number,
): boolean {
  return checkedAgo >= 0 && checkedAgo < seconds
}

const SLICE_BYTES = 64 * 1024

async function* slicesOf(body: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < body.length; at += SLICE_BYTES) {
    yield body.subarray(at, at + SLICE_BYTES)
  }
}

async function importFiles(
  db: Database,
  origin: string,
  read: ReadPackageFiles,
  etag: string | undefined,
): Promise<ImportReport> {
  const collector = new Collector(await listOpamFiles(db, KEPT_FILES_MAX))
  try {
    await read((file) => collector.add(file))
    const { rows, sources, count, problems } = await collector.end()
    if (count === 0) {
      throw new NoOpamRepositoryError(
        `${origin} is no opam repository: it has no file packages/NAME/NAME.VERSION/opam`,
      )
    }
    const done = { origin, etag, files: count, problems: problems.length }
    const added = await putOpamImport(db, done, rows, sources)
    return {
      files: count,
      read: rows.length,
      sources: added,
      problems: problems.length,
      shown: problems.slice(0, PROBLEMS_SHOWN_MAX),
    }
  } finally {
    await collector.close()
  }
}

type Pending = OpamFileRow & { readonly bytes: Uint8Array }

/** Collects the new files of a repository, and parses them in another process. */
class Collector {
  readonly #parser = new OpamFileParser()
  readonly #seen: Set<string>
  readonly #rows: OpamFileRow[] = []
  readonly #sources: OpamSourceRow[] = []
  readonly #problems: string[] = []
  #count = 0
  #batch: Pending[] = []
  #batchBytes = 0
  /** The batch that the other process parses. */
  #parsing: Promise<void> = Promise.resolve()
  #sliceEnds = performance.now() + SLICE_MILLISECONDS_MAX

  constructor(known: readonly OpamFileRow[]) {
    this.#seen = new Set(known.map(keyOf))
  }

  async add({ name, version, bytes }: PackageFile): Promise<void> {
    this.#count += 1
    if (this.#count > PACKAGE_FILES_MAX) {
      throw new NoOpamRepositoryError(`there are more than ${PACKAGE_FILES_MAX} packages`)
    }
    if (bytes === undefined) {
      this.#problems.push(`${name}.${version}: the file is too large`)
      return
    }
    const row = { name, version, sha256: createHash('sha256').update(bytes).digest('hex') }
    if (!this.#seen.has(keyOf(row))) {
      this.#seen.add(keyOf(row))
      this.#batch.push({ ...row, bytes })
      this.#batchBytes += bytes.length
    }
    if (this.#batch.length >= BATCH_FILES_MAX || this.#batchBytes >= BATCH_BYTES_MAX) {
      await this.#flush()
    }
    if (performance.now() < this.#sliceEnds) return
    await nextTurn()
    this.#sliceEnds = performance.now() + SLICE_MILLISECONDS_MAX
  }

  /** Returns the new rows. A file that could not be parsed is read again by the next import. */
  async end() {
    await this.#flush()
    await this.#parsing
    const problems = this.#problems
    return { rows: this.#rows, sources: this.#sources, count: this.#count, problems }
  }

  async close(): Promise<void> {
    await this.#parsing.catch(() => {})
    await this.#parser.close()
  }

  /** Gives the batch to the other process, after the one before. */
  async #flush(): Promise<void> {
    await this.#parsing
    const batch = this.#batch
    this.#batch = []
    this.#batchBytes = 0
    if (batch.length > 0) this.#parsing = this.#parse(batch)
    // The next batch, or the end, waits for it and throws its failure.
    this.#parsing.catch(() => {})
  }

  async #parse(batch: readonly Pending[]): Promise<void> {
    const parsed = await this.#parser.parse(batch.map(({ bytes }) => bytes))
    for (const [index, { keys, problem }] of parsed.entries()) {
      const file = batch[index]
      if (file === undefined) continue
      const { name, version, sha256 } = file
      if (problem !== undefined) {
        this.#problems.push(`${name}.${version}: ${problem}`)
        continue
      }
      this.#rows.push({ name, version, sha256 })
      for (const key of keys) this.#sources.push({ key, name, version })
    }
  }
}

function keyOf({ name, version, sha256 }: OpamFileRow): string {
  return `${name}.${version} ${sha256}`
}
