import { createReadStream, createWriteStream } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { PassThrough } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createGzip } from 'node:zlib'
import { type DumpRow, isTableName } from '../../db/maintenance/dump.ts'
import type { InventoryRow } from '../../db/maintenance/inventory.ts'
import { parseDigest } from '../../oci/digest.ts'
import { CommandError, reasonOf } from '../errors.ts'

/** The first line of a dump: its kind, and the migrations of its schema. */
export type DumpHeader = {
  readonly rookery: 'database'
  readonly version: 1
  readonly takenAt: string
  readonly migrations: readonly string[]
  /** The id of the installation; a backup of an earlier release has none. */
  readonly installation?: string
}

const BLOBS_A_PAGE = 100

/**
 * Writes a dump: gzip of lines of JSON.
 *
 *     {"rookery":"database","version":1,"takenAt":"…","migrations":["0001-…"],"installation":"…"}
 *     blobs {"id":1,"digest":"sha256:…",…}          one line per row, after its table
 *     sequences {"name":"blobs_id_seq","value":7}   the last identity that was given out
 *     end 1234                                      the number of rows
 *
 * The file is written aside, synced, and moved into place.
 */
export async function writeDump(
  path: string,
  header: DumpHeader,
  dump: (take: (row: DumpRow) => Promise<void>) => Promise<void>,
): Promise<number> {
  const lines = new PassThrough()
  const aside = `${path}.partial`
  const written = pipeline(lines, createGzip(), createWriteStream(aside, { mode: 0o600 }))
  // Awaited below; a failed dump must not be an unhandled rejection as well.
  written.catch(() => {})
  const write = async (line: string): Promise<void> => {
    if (lines.write(`${line}\n`)) return
    await Promise.race([new Promise((resolve) => lines.once('drain', resolve)), written])
  }
  let rows = 0
  try {
    await write(JSON.stringify(header))
    await dump(async ({ table, row }) => {
      rows += 1
      await write(`${table} ${row}`)
    })
    lines.end(`end ${rows}\n`)
    await written
  } catch (error) {
    lines.destroy()
    throw error
  }
  const file = await open(aside, 'r+')
  await file.sync()
  await file.close()
  await rename(aside, path)
  return rows
}

/** Returns the header of a dump. Throws CommandError for any other file. */
export async function readDumpHeader(path: string): Promise<DumpHeader> {
  for await (const line of linesOf(path)) {
    const header = parseJson(path, line) as Partial<DumpHeader>
    if (header.rookery === 'database' && header.version === 1) return header as DumpHeader
    break
  }
  throw damaged(path, 'the header is missing')
}

/** Yields every row of a dump. Throws CommandError at the end of an incomplete one. */
export async function* readDumpRows(path: string): AsyncGenerator<DumpRow> {
  let rows = 0
  let ended = false
  let first = true
  for await (const line of linesOf(path)) {
    if (first) {
      first = false
      continue
    }
    const space = line.indexOf(' ')
    const table = line.slice(0, space)
    if (table === 'end') {
      ended = Number(line.slice(space + 1)) === rows
      continue
    }
    if (!isTableName(table)) throw damaged(path, `it has an unknown table ${table}`)
    rows += 1
    yield { table, row: line.slice(space + 1) }
  }
  if (!ended) throw damaged(path, 'its end is missing')
}

/** Yields the blobs of a dump in pages. */
export async function* readDumpBlobs(path: string): AsyncGenerator<InventoryRow[]> {
  let page: InventoryRow[] = []
  for await (const { table, row } of readDumpRows(path)) {
    if (table !== 'blobs') continue
    const blob = parseJson(path, row) as Record<string, unknown>
    page.push({
      id: Number(blob.id),
      digest: parseDigest(String(blob.digest)),
      size: Number(blob.size),
      storageKey: String(blob.storage_key),
      lost: typeof blob.lost_at === 'string',
    })
    if (page.length < BLOBS_A_PAGE) continue
    yield page
    page = []
  }
  yield page
}

/**
 * Yields the storage keys of the blobs of a dump. Reads it no further than the last blob, which is near its beginning:
 * a dump that is damaged behind that is not noticed.
 */
export async function* readDumpKeys(path: string): AsyncGenerator<string> {
  let isFound = false
  for await (const { table, row } of readDumpRows(path)) {
    if (table === 'blobs') {
      isFound = true
      yield String((parseJson(path, row) as Record<string, unknown>).storage_key)
    } else if (isFound) return
  }
}

async function* linesOf(path: string): AsyncGenerator<string> {
  const lines = new PassThrough()
  const read = pipeline(createReadStream(path), createGunzip(), lines)
  read.catch(() => {})
  try {
    yield* createInterface({ input: lines, crlfDelay: Number.POSITIVE_INFINITY })
    await read
  } catch (cause) {
    if (cause instanceof CommandError) throw cause
    throw damaged(path, reasonOf(cause))
  } finally {
    lines.destroy()
  }
}

/** Returns the value of a row. Throws CommandError, which names the dump. */
export function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw damaged(path, 'a line is not JSON')
  }
}

function damaged(path: string, reason: string): CommandError {
  return new CommandError(`${path} is not a complete dump of a registry: ${reason}`)
}
