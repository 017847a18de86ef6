import { ANSWER_MILLISECONDS_MAX, Channel } from './channel.ts'
import type { Post, ToPrimary, ToWorker } from './messages.ts'
import type { Answers } from './peers.ts'

/** The primary and the other workers, for a worker. */
export class WorkerChannel extends Channel {
  readonly #send: (message: ToPrimary) => void
  readonly #asked = new Map<number, (values: readonly unknown[]) => void>()
  #asks = 0

  /** `send` does nothing when the primary has ended. */
  constructor(send: (message: ToPrimary) => void) {
    super()
    this.#send = send
  }

  /** Takes a message of the primary that is about other processes. */
  receive(message: ToWorker): void {
    switch (message.kind) {
      case 'posts':
        this.receivePosts(message)
        break
      case 'ask':
        void this.answer(message.topic).then((value) =>
          this.#send({ kind: 'answer', id: message.id, value }),
        )
        break
      case 'answers':
        this.#asked.get(message.id)?.(message.values)
        break
      case 'joined':
        this.joined()
        break
      case 'left':
        this.left(message.from)
        break
      default:
    }
  }

  async ask<T extends keyof Answers>(topic: T): Promise<Answers[T][]> {
    this.#asks += 1
    const id = this.#asks
    const values = await new Promise<readonly unknown[]>((resolve) => {
      // The primary answers in time; it may have ended.
      const timer = setTimeout(() => resolve([]), 2 * ANSWER_MILLISECONDS_MAX)
      this.#asked.set(id, (answers) => {
        clearTimeout(timer)
        resolve(answers)
      })
      this.#send({ kind: 'ask', id, topic })
    })
    this.#asked.delete(id)
    return values as Answers[T][]
  }

  protected sendPosts(posts: readonly Post[]): void {
    // The primary knows from whom it is.
    this.#send({ kind: 'posts', from: 0, posts })
  }
}
