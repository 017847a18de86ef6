import { WorkerThread } from '../async/worker-thread.ts'
import type { OpamFileKeys, OpamFilesTask } from './tasks.ts'

export type { OpamFileKeys } from './tasks.ts'

const ENTRY = new URL(
  import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js',
  import.meta.url,
)

/** Parses the `opam` files of an opam repository in a thread of its own. */
export class OpamFileParser {
  readonly #thread = new WorkerThread<OpamFilesTask, readonly OpamFileKeys[]>({
    entry: ENTRY,
    waitingMax: 2,
    clientWaitingMax: 2,
    // A task has some megabytes of files, which take less than a second.
    taskMillisecondsMax: 30_000,
    heapMebibytesMax: 128,
  })

  /** Returns the keys of each file's source, in the order of the files. */
  parse(files: readonly Uint8Array[]): Promise<readonly OpamFileKeys[]> {
    return this.#thread.run('', async () => ({ task: { kind: 'opam-files', files } }))
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    await this.#thread.close()
  }
}
