import { setTimeout as delay } from 'node:timers/promises'
import { FILTERABLE_TYPES, isAboutRegistry } from '../../src/events/event.ts'
import type { TestRegistry } from '../support/registry.ts'

/** An event of a repository, as a client of the feed reads it. */
export type FeedEvent = {
  readonly id: string
  readonly type: string
  /** Milliseconds since 1970. */
  readonly at: number
  /** Counts the events of the repository. */
  readonly sequence: number
  readonly data: {
    readonly tag: string
    readonly digest: string
    readonly previousDigest: string | null
    readonly deployment: string
    readonly number: number
    readonly kind: string
    readonly state: string
    readonly reason: string | null
    readonly host: string
    readonly unit: string
    readonly kernel: string | null
    readonly settled: boolean
  }
}

const WAIT_SECONDS = 5
const RETRY_MILLISECONDS = 50
const PAGE = 1000

/** Reads the feed of a repository without a pause, from any of the servers, with the cursor of the page before. */
export class FeedReader {
  readonly events: FeedEvent[] = []
  readonly problems: string[] = []
  readonly #registry: TestRegistry
  readonly #query: string
  readonly #stopping = new AbortController()
  #cursor = ''
  #running: Promise<void> = Promise.resolve()

  private constructor(registry: TestRegistry, repository: string) {
    this.#registry = registry
    const types = FILTERABLE_TYPES.filter((type) => !isAboutRegistry(type))
    const words = types.map((type) => `type=${type}`).join('&')
    this.#query = `repository=${encodeURIComponent(repository)}&${words}`
  }

  /** Resolves when it has its first cursor: nothing that happens afterwards is missing. */
  static async start(registry: TestRegistry, repository: string): Promise<FeedReader> {
    const reader = new FeedReader(registry, repository)
    await reader.#read('n=0')
    reader.#running = reader.#follow()
    return reader
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const after = encodeURIComponent(this.#cursor)
      try {
        await this.#read(`n=${PAGE}&wait=${WAIT_SECONDS}&after=${after}`)
      } catch {
        await delay(RETRY_MILLISECONDS)
      }
    }
  }

  /** Throws when there is no whole answer: the same page is asked for again. */
  async #read(words: string): Promise<void> {
    const { signal } = this.#stopping
    const path = `/api/v1/events?${this.#query}&${words}`
    const answer = await this.#registry.request(path, { signal })
    if (answer.status !== 200) {
      const text = await answer.text()
      if (answer.status !== 503) this.problems.push(`the feed: ${answer.status} ${text}`)
      throw new Error(text)
    }
    const page = (await answer.json()) as {
      events: (Omit<FeedEvent, 'at' | 'sequence'> & { time: string; sequence: string })[]
      cursor: string
      reset?: object
    }
    if (page.reset) this.problems.push(`the feed was reset: ${JSON.stringify(page.reset)}`)
    this.#cursor = page.cursor
    for (const { time, sequence, ...event } of page.events) {
      this.events.push({ ...event, at: Date.parse(time), sequence: Number(sequence) })
    }
  }
}
