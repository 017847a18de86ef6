import type { Post, SharedMessage } from './messages.ts'
import type { Answers, Peers, Posts } from './peers.ts'

/** For how long posts are gathered into one message. */
const GATHER_MILLISECONDS = 20
/** Further posts of this time are left out: what is shared is counts, and the next ones are right again. */
const POSTS_MAX = 10_000
/** A process that computes for longer does not keep the others from their answers. */
export const ANSWER_MILLISECONDS_MAX = 2_000

type Listener = (value: never, from: number) => void

/** The part of Peers that primary and workers have in common: gathering, listeners and answers. */
export abstract class Channel implements Peers {
  readonly #listeners = new Map<keyof Posts, Listener[]>()
  readonly #answers = new Map<keyof Answers, () => Promise<unknown>>()
  readonly #joining: (() => void)[] = []
  readonly #leaving: ((from: number) => void)[] = []
  #posts: Post[] = []
  #timer: NodeJS.Timeout | undefined

  /** Sends gathered posts to all other processes. */
  protected abstract sendPosts(posts: readonly Post[]): void

  abstract ask<T extends keyof Answers>(topic: T): Promise<Answers[T][]>

  post<T extends keyof Posts>(topic: T, value: Posts[T]): void {
    if (this.#posts.length < POSTS_MAX) this.#posts.push({ topic, value })
    this.#timer ??= setTimeout(() => {
      const posts = this.#posts
      this.#posts = []
      this.#timer = undefined
      this.sendPosts(posts)
    }, GATHER_MILLISECONDS).unref()
  }

  onPost<T extends keyof Posts>(topic: T, listener: (value: Posts[T], from: number) => void): void {
    const listeners = this.#listeners.get(topic) ?? []
    this.#listeners.set(topic, [...listeners, listener as Listener])
  }

  onAsk<T extends keyof Answers>(topic: T, answer: () => Promise<Answers[T]>): void {
    this.#answers.set(topic, answer)
  }

  onJoin(listener: () => void): void {
    this.#joining.push(listener)
  }

  onLeave(listener: (from: number) => void): void {
    this.#leaving.push(listener)
  }

  protected receivePosts({ from, posts }: Extract<SharedMessage, { kind: 'posts' }>): void {
    for (const { topic, value } of posts) {
      for (const listener of this.#listeners.get(topic) ?? []) listener(value as never, from)
    }
  }

  protected joined(): void {
    for (const listener of this.#joining) listener()
  }

  protected left(from: number): void {
    for (const listener of this.#leaving) listener(from)
  }

  /** Answers a question of another process; undefined: it cannot be answered. */
  protected async answer(topic: keyof Answers): Promise<unknown> {
    try {
      return await this.#answers.get(topic)?.()
    } catch {
      return undefined
    }
  }
}
