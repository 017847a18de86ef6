import { statfs } from 'node:fs/promises'
import { freemem, tmpdir } from 'node:os'

const MEMORY = '/dev/shm'
const TMPFS = 0x01021994
/** A run of tests needs at most a quarter of it. */
const FREE_BYTES_MIN = 4 * 1024 ** 3

/** Returns a folder in memory for files that need not outlive the run, or the one of temporary files when memory is scarce. */
export async function memoryFolder(): Promise<string> {
  const found = await statfs(MEMORY).catch(() => undefined)
  if (found === undefined || found.type !== TMPFS) return tmpdir()
  const free = Math.min(found.bavail * found.bsize, freemem())
  return free < FREE_BYTES_MIN ? tmpdir() : MEMORY
}

export const isInMemory = (path: string) => path.startsWith(`${MEMORY}/`)
