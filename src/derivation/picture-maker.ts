import { QueueFullError, TaskFailedError, WorkerProcess } from '../async/worker-process.ts'
import { unavailable } from '../oci/errors.ts'
import type { MadePicture, PictureTask } from './pictures/tasks.ts'

export type { MadePicture, PictureTask } from './pictures/tasks.ts'

const ENTRY = new URL(
  import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js',
  import.meta.url,
)
const RETRY_SECONDS = 5
/** The longest time of one picture, and the time that it may wait for others. */
export const PICTURE_MILLISECONDS_MAX = 20_000
const WAITING_MAX = 8

/** Makes pictures one after the other in a process of their own, because they take seconds. */
export class PictureMaker {
  readonly #process: WorkerProcess<PictureTask, MadePicture>

  constructor(entry = ENTRY, taskMillisecondsMax = PICTURE_MILLISECONDS_MAX) {
    this.#process = new WorkerProcess({
      ...{ entry, taskMillisecondsMax },
      waitingMax: WAITING_MAX,
      clientWaitingMax: WAITING_MAX,
      heapMebibytesMax: 256,
    })
  }

  /**
   * Makes a picture. `prepare` is called when its turn comes. A picture that takes too long or too much memory is a problem. Throws
   * UNAVAILABLE when too many pictures wait, and what `prepare` throws.
   */
  async make(prepare: () => Promise<PictureTask>): Promise<MadePicture> {
    let isPrepared = false
    const prepareOnce = async () => {
      const task = await prepare()
      isPrepared = true
      return task
    }
    try {
      return await this.#process.run('', prepareOnce)
    } catch (cause) {
      if (cause instanceof QueueFullError) {
        const message = 'too many pictures wait to be made, try again'
        throw unavailable(message, { retryAfterSeconds: RETRY_SECONDS, cause })
      }
      if (isPrepared && cause instanceof TaskFailedError && !this.#isClosed) {
        return { problem: `too large to draw: ${cause.message}` }
      }
      throw cause
    }
  }

  #isClosed = false

  /** Ends the process. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#process.close()
  }
}
