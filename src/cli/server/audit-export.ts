import { readFile, rename, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { errnoOf } from '../../async/errno.ts'
import type { AuditLog, EntryFilter } from '../../auth/audit.ts'
import { CommandError, STATUS } from '../errors.ts'
import { deliverJsonLines } from '../printing.ts'

export type ExportOptions = {
  /** The id after which the export begins; undefined: that of the file, or the beginning. */
  readonly after: number | undefined
  readonly cursorFile: string | undefined
  /** True: wait for further entries until the signal is aborted. */
  readonly follow: boolean
  readonly signal: AbortSignal
}

const PAGE = 500
const FOLLOW_MILLISECONDS = 2_000
const CURSOR_FILE_MODE = 0o600

/**
 * Prints entries, oldest first, one JSON object on a line. The cursor is stored after the lines are written, so that
 * another run may repeat the last ones and misses none. Returns the exit status.
 */
export async function exportEntries(
  audit: AuditLog,
  filter: EntryFilter,
  { after, cursorFile, follow, signal }: ExportOptions,
): Promise<number> {
  let cursor = after ?? (cursorFile === undefined ? 0 : await readCursor(cursorFile))
  while (!signal.aborted) {
    const { entries, next, more } = await audit.listAfter({ ...filter, after: cursor, limit: PAGE })
    if (entries.length > 0 && !(await deliverJsonLines(entries))) return STATUS.failed
    if (cursorFile !== undefined && next > cursor) await storeCursor(cursorFile, next)
    cursor = next
    if (more) continue
    if (!follow) break
    await delay(FOLLOW_MILLISECONDS, undefined, { signal }).catch(() => {})
  }
  return STATUS.ok
}

async function readCursor(file: string): Promise<number> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return '0'
    throw new CommandError(`cannot read ${file}: ${errnoOf(error)}`, { cause: error })
  })
  if (/^\d{1,15}\n?$/.test(text)) return Number(text)
  throw new CommandError(`${file} must contain the id of an entry: remove it to begin again`)
}

/** Replaces the file at once, so that a crash leaves the earlier cursor or the new one. */
async function storeCursor(file: string, cursor: number): Promise<void> {
  try {
    await writeFile(`${file}.new`, `${cursor}\n`, { mode: CURSOR_FILE_MODE })
    await rename(`${file}.new`, file)
  } catch (error) {
    throw new CommandError(`cannot write ${file}: ${errnoOf(error)}`, { cause: error })
  }
}
