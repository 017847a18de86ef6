import { WorkerProcess } from '../async/worker-process.ts'
import type { OpamFileKeys, OpamFilesTask } from './tasks.ts'

export type { OpamFileKeys } from './tasks.ts'

const ENTRY = new URL(
  import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js',
  import.meta.url,
)

/** Parses the `opam` files of an opam repository in a process of its own. */
export class OpamFileParser {
  readonly #process = new WorkerProcess<OpamFilesTask, readonly OpamFileKeys[]>({
    entry: ENTRY,
    waitingMax: 2,
    clientWaitingMax: 2,
    // A task has some megabytes of files, which take less than a second.
    taskMillisecondsMax: 30_000,
    heapMebibytesMax: 128,
  })

  /** Returns the keys of each file's source, in the order of the files. */
  parse(files: readonly Uint8Array[]): Promise<readonly OpamFileKeys[]> {
    return this.#process.run('', async () => ({ kind: 'opam-files', files }))
  }

  /** Ends the process. */
  async close(): Promise<void> {
    await this.#process.close()
  }
}
