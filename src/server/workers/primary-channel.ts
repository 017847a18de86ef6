import { ANSWER_MILLISECONDS_MAX, Channel } from './channel.ts'
import type { Post, ToPrimary, ToWorker } from './messages.ts'
import type { Answers } from './peers.ts'

/** The number of the primary among the processes; workers have those of node:cluster, from 1. */
const PRIMARY = 0

/** A worker, as the primary reaches it. */
export type Reachable = {
  readonly id: number
  /** Does nothing when the worker has ended. */
  send(message: ToWorker): void
}

type Asked = { readonly worker: Reachable; answer(value: unknown): void }

/** All workers, for the primary. It passes on what they send to each other. */
export class PrimaryChannel extends Channel {
  readonly #workers = new Map<number, Reachable>()
  readonly #asked = new Map<number, Asked>()
  #asks = 0

  add(worker: Reachable): void {
    for (const other of this.#workers.values()) other.send({ kind: 'joined' })
    this.#workers.set(worker.id, worker)
    this.joined()
  }

  remove({ id }: Reachable): void {
    if (!this.#workers.delete(id)) return
    for (const { worker, answer } of this.#asked.values()) {
      if (worker.id === id) answer(undefined)
    }
    this.left(id)
    for (const worker of this.#workers.values()) worker.send({ kind: 'left', from: id })
  }

  /** Takes a message of a worker that is about other processes. */
  receive(worker: Reachable, message: ToPrimary): void {
    switch (message.kind) {
      case 'posts': {
        const passed = { ...message, from: worker.id }
        this.receivePosts(passed)
        for (const other of this.#others(worker)) other.send(passed)
        break
      }
      case 'ask': {
        const { id, topic } = message
        void Promise.all([this.answer(topic), this.#askWorkers(topic, worker)]).then(
          ([own, others]) =>
            worker.send({ kind: 'answers', id, values: defined([own, ...others]) }),
        )
        break
      }
      case 'answer':
        this.#asked.get(message.id)?.answer(message.value)
        break
      default:
    }
  }

  async ask<T extends keyof Answers>(topic: T): Promise<Answers[T][]> {
    return defined(await this.#askWorkers(topic)) as Answers[T][]
  }

  protected sendPosts(posts: readonly Post[]): void {
    for (const worker of this.#workers.values())
      worker.send({ kind: 'posts', from: PRIMARY, posts })
  }

  #others(worker: Reachable | undefined): Reachable[] {
    return [...this.#workers.values()].filter(({ id }) => id !== worker?.id)
  }

  #askWorkers(topic: keyof Answers, except?: Reachable): Promise<unknown[]> {
    return Promise.all(this.#others(except).map((worker) => this.#askOne(worker, topic)))
  }

  #askOne(worker: Reachable, topic: keyof Answers): Promise<unknown> {
    this.#asks += 1
    const id = this.#asks
    return new Promise((resolve) => {
      const answer = (value: unknown) => {
        clearTimeout(timer)
        this.#asked.delete(id)
        resolve(value)
      }
      const timer = setTimeout(() => answer(undefined), ANSWER_MILLISECONDS_MAX)
      this.#asked.set(id, { worker, answer })
      worker.send({ kind: 'ask', id, topic })
    })
  }
}

function defined(values: readonly unknown[]): unknown[] {
  // JSON has null for undefined.
  return values.filter((value) => value !== undefined)
}
