import { join } from 'node:path'
import { algorithmOf, digestOf, parseDigest } from '../../oci/digest.ts'
import { verifyBlobs } from '../../registry/maintenance/copy.ts'
import { FilesystemStore } from '../../storage/filesystem/filesystem-store.ts'
import { CommandError } from '../errors.ts'
import { sizeText } from '../printing.ts'
import { DUMP_FILE, type Generation, sizeOf } from './backup-folder.ts'
import { parseJson, readDumpBlobs, readDumpHeader, readDumpRows } from './dump-file.ts'

const PROBLEMS_SHOWN_MAX = 100

/** The findings of reading a backup. */
export type BackupReport = {
  readonly name: string
  readonly path: string
  readonly takenAt: string | undefined
  readonly rows: number
  /** Rows of each table of the dump. */
  readonly tables: Readonly<Record<string, number>>
  readonly blobs: number
  readonly bytes: number
  /** Blobs without bytes that the registry had lost before the backup. */
  readonly lost: number
  /** Each with the name of the file, row or blob. */
  readonly problems: readonly string[]
}

type DumpReport = Pick<BackupReport, 'takenAt' | 'rows' | 'tables' | 'problems'>

/**
 * Reads a backup as a restore would: the dump with its end and its number of rows, the digest of each manifest and of each
 * blob, that every blob of a manifest is in the dump, and the secret files. Changes nothing. Throws the signal's reason.
 */
export async function verifyGeneration(
  folder: string,
  { name, path, summary, isEarlier }: Generation,
  options: {
    readonly signal: AbortSignal
    onProgress(report: { blobs: number; bytes: number }): void
  },
): Promise<BackupReport> {
  const dump = join(path, DUMP_FILE)
  const checked = await verifyDump(dump)
  const problems = [...checked.problems]
  if (summary === undefined && !isEarlier) {
    problems.push(`damaged ${path}: its summary is missing or damaged`)
  }
  if (summary !== undefined && problems.length === 0 && summary.rows !== checked.rows) {
    problems.push(`damaged ${dump}: ${checked.rows} rows, and the summary has ${summary.rows}`)
  }
  for (const file of summary?.files ?? []) {
    if ((await sizeOf(join(path, file))) === undefined) problems.push(`missing ${join(path, file)}`)
    else if ((await sizeOf(join(path, file))) === 0) problems.push(`empty ${join(path, file)}`)
  }
  let [blobs, bytes, lost] = [0, 0, 0]
  // The list of blobs of a damaged dump ends early.
  if (checked.problems.every((problem) => !problem.startsWith('damaged '))) {
    const report = await verifyBlobs(readDumpBlobs(dump), FilesystemStore.at(folder), {
      signal: options.signal,
      onPage: options.onProgress,
    })
    ;({ blobs, bytes } = report)
    for (const failure of report.failures) {
      if (failure.lost) lost += 1
      else problems.push(`${failure.reason} ${failure.digest} (${failure.storageKey})`)
    }
  }
  const { takenAt, rows, tables } = checked
  return { name, path, takenAt, rows, tables, blobs, bytes, lost, problems }
}

/** The report as lines of text. */
export function verifyLines({
  name,
  path,
  rows,
  tables,
  blobs,
  bytes,
  lost,
  problems,
}: BackupReport): string[] {
  return [
    ...problems.slice(0, PROBLEMS_SHOWN_MAX),
    `Read the backup ${name} in ${path}: ${rows} rows, ${tables.manifests ?? 0} of them manifests, and ${blobs} blobs with ${sizeText(bytes)}.`,
    ...(lost > 0 ? [`Lost before the backup: ${lost} blobs.`] : []),
    problems.length === 0
      ? 'It is complete.'
      : `Problems: ${problems.length}. Restore another backup, or make a new one.`,
  ]
}

/** Reads every row. A problem that begins with `damaged` ends the reading. */
async function verifyDump(dump: string): Promise<DumpReport> {
  const tables: Record<string, number> = {}
  const problems: string[] = []
  const [blobs, manifests] = [new Set<number>(), new Set<number>()]
  let [rows, takenAt]: [number, string | undefined] = [0, undefined]
  try {
    ;({ takenAt } = await readDumpHeader(dump))
    for await (const { table, row } of readDumpRows(dump)) {
      rows += 1
      tables[table] = (tables[table] ?? 0) + 1
      const columns = parseJson(dump, row) as Record<string, unknown>
      if (table === 'blobs') blobs.add(Number(columns.id))
      else if (table === 'manifests') {
        manifests.add(Number(columns.id))
        if (!isManifest(columns)) problems.push(`corrupt manifest ${columns.digest}`)
      } else if (table === 'manifest_blobs') {
        if (!manifests.has(Number(columns.manifest_id))) {
          problems.push(`missing manifest with the id ${columns.manifest_id}`)
        } else if (!blobs.has(Number(columns.blob_id))) {
          problems.push(
            `missing blob with the id ${columns.blob_id}, of the manifest with the id ${columns.manifest_id}`,
          )
        }
      }
    }
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    problems.push(`damaged ${error.message}`)
  }
  return { takenAt, rows, tables, problems }
}

/** True when the bytes of a manifest, as Postgres writes them as JSON, have its digest. */
function isManifest({ digest, bytes }: Record<string, unknown>): boolean {
  const expected = parseDigest(String(digest))
  const content = Buffer.from(String(bytes).slice('\\x'.length), 'hex')
  return digestOf(content, algorithmOf(expected)) === expected
}
