import { setTimeout as delay } from 'node:timers/promises'
import { RegistryResponseError, RegistryUnreachableError } from '../../client/errors.ts'
import type { RegistryApi } from '../../client/registry-api.ts'
import { argument, command, flag, repeated, value } from '../command.ts'
import { STATUS } from '../errors.ts'
import { printJson, printLines, utcText, visible } from '../printing.ts'
import { queryOf, shortDigest, withHostApi } from './api-client.ts'
import { LOGIN_OPTIONS } from './login-options.ts'

/** A page of the feed: spec/openapi.yaml, followEvents. */
type Page = {
  readonly events: readonly ShownEvent[]
  readonly cursor: string
  readonly more: boolean
  readonly reset?: { readonly reason: string }
  readonly snapshot?: readonly ShownTag[]
}

type ShownEvent = {
  readonly type: string
  readonly subject: string
  readonly time: string
  readonly data: {
    readonly digest?: string | null
    readonly previousDigest?: string | null
    readonly reason?: string | null
    readonly detail?: string
    readonly state?: string
    readonly unikernels?: readonly { readonly target: string }[]
  }
}

type ShownTag = {
  readonly repository: string
  readonly tag: string
  readonly digest: string
  readonly movedAt: string
  readonly unikernels: readonly { readonly target: string }[]
}

/** How long a page waits for an event. */
const WAIT_SECONDS = 25
const PAGE = 1000
const PAGES_MAX = 1_000_000
const FIRST_WAIT_MILLISECONDS = 500
const WAIT_MILLISECONDS_MAX = 30_000

/** `rookery events`: the feed of a registry. */
export const eventsCommand = command({
  arguments: { host: argument('HOST', 'registry, such as registry.example.org') },
  options: {
    repository: repeated('GLOB', "only repositories such as 'builds/**'"),
    tag: repeated('GLOB', "only tags such as 'v*'"),
    type: repeated('TYPE', 'only events of this type, such as image.tag.updated'),
    after: value('CURSOR', 'begin behind this cursor, which an earlier run printed'),
    snapshot: flag('begin with the current position of all tags'),
    follow: flag('wait for new events, and reconnect when the connection breaks'),
    json: flag('print one JSON object per line'),
    ...LOGIN_OPTIONS,
  },
  notes: 'At its end the command prints the cursor behind the last event.',
  examples: [
    ['rookery events registry.example.org --snapshot --follow', 'show all tags and every change'],
    [
      "rookery events registry.example.org --repository 'builds/**' --follow --json",
      'feed a program',
    ],
  ],
  run(values, environment) {
    const { host, repository = [], tag = [], type = [], after, snapshot, follow, json } = values
    const filter = new URLSearchParams()
    for (const glob of repository) filter.append('repository', glob)
    for (const glob of tag) filter.append('tag', glob)
    for (const one of type) filter.append('type', one)
    return withHostApi(host, values, environment, async (api) => {
      const reader = new FeedReader(api, filter.toString(), after, snapshot)
      const show = (page: Page) => print(page, json)
      if (follow) await untilInterrupted((signal) => followFeed(reader, show, signal))
      else await readToEnd(reader, show)
      if (reader.cursor !== undefined) printCursor(reader.cursor, json)
      return STATUS.ok
    })
  },
})

/** Reads the feed page by page. */
class FeedReader {
  readonly #api: RegistryApi
  readonly #filter: string
  #cursor: string | undefined
  #snapshot: boolean

  constructor(api: RegistryApi, filter: string, cursor: string | undefined, snapshot: boolean) {
    this.#api = api
    this.#filter = filter
    this.#cursor = cursor
    this.#snapshot = snapshot
  }

  /** The cursor of the next page; undefined before the first page without a cursor to begin at. */
  get cursor(): string | undefined {
    return this.#cursor
  }

  async next(waitSeconds: number): Promise<Page> {
    const query = queryOf({
      after: this.#cursor,
      snapshot: this.#snapshot ? '1' : undefined,
      wait: waitSeconds > 0 ? String(waitSeconds) : undefined,
      n: String(PAGE),
    })
    const path = `/api/v1/events${query}${this.#filter === '' ? '' : `&${this.#filter}`}`
    // Other registries may answer with JSON that has no events.
    const page = (await this.#api.find(path, 'the feed of events')) as Partial<Page>
    if (!Array.isArray(page.events) || typeof page.cursor !== 'string') {
      throw new RegistryResponseError('the registry is not a Rookery: it has no feed of events', {
        status: 502,
      })
    }
    this.#cursor = page.cursor
    return page as Page
  }
}

async function readToEnd(reader: FeedReader, show: (page: Page) => void): Promise<void> {
  for (let pages = 0; pages < PAGES_MAX; pages += 1) {
    const page = await reader.next(0)
    show(page)
    if (!page.more) return
  }
}

async function followFeed(
  reader: FeedReader,
  show: (page: Page) => void,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0
  while (!signal.aborted) {
    try {
      const page = await reader.next(WAIT_SECONDS)
      if (failures > 0) printNote('reconnected')
      failures = 0
      show(page)
    } catch (error) {
      if (signal.aborted || !isTransient(error)) throw error
      if (failures === 0) printNote(`${(error as Error).message}; reconnecting`)
      failures += 1
      const grown =
        FIRST_WAIT_MILLISECONDS * 2 ** Math.min(failures, 10) * (0.75 + Math.random() / 2)
      await delay(Math.min(grown, WAIT_MILLISECONDS_MAX), undefined, { signal })
    }
  }
}

/** A registry that restarts refuses connections for a moment. */
function isTransient(error: unknown): boolean {
  if (error instanceof RegistryUnreachableError) return true
  return error instanceof RegistryResponseError && (error.status === 429 || error.status >= 500)
}

/** Runs `work` until it fails, or until SIGINT or SIGTERM. */
async function untilInterrupted(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController()
  const { signal } = controller
  const interrupted = new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort())
  const working = work(signal)
  // A failure after the interruption is of no use to anybody.
  working.catch(() => {})
  await Promise.race([working, interrupted])
}

function printNote(text: string): void {
  process.stderr.write(`rookery: ${visible(text)}\n`)
}

/** The next run with this cursor repeats no event and misses none. */
function printCursor(cursor: string, json: boolean): void {
  if (json) printJson({ cursor })
  else printNote(`continue with --after ${cursor}`)
}

function print({ events, reset, snapshot = [] }: Page, json: boolean): void {
  if (reset !== undefined) {
    printNote(
      `the events since the cursor are not available (${reset.reason}); continuing from now`,
    )
  }
  if (json) {
    for (const tag of snapshot) printJson({ snapshot: tag })
    for (const event of events) printJson(event)
    return
  }
  printLines([...snapshot.map(tagLine), ...events.map(eventLine)].map(visible))
}

function tagLine({ repository, tag, digest, movedAt, unikernels }: ShownTag): string {
  return line(movedAt, `${repository}:${tag}`, `is at ${shortDigest(digest)}`, unikernels)
}

function eventLine({ type, subject, time, data }: ShownEvent): string {
  return line(time, subject, changeText(type, data), data.unikernels)
}

function changeText(type: string, data: ShownEvent['data']) {
  const { digest, previousDigest, reason, detail, state } = data
  const [to, from] = [digest, previousDigest].map((one) => (one ? shortDigest(one) : 'nothing'))
  if (type === 'image.tag.updated') {
    return `${reason === 'rollback' ? 'rolled back to' : 'moved to'} ${to} from ${from}`
  }
  if (type === 'image.tag.deleted') return `deleted; it was at ${from}`
  const words: Readonly<Record<string, string>> = {
    'image.pushed': 'pushed',
    'image.deleted': 'deleted',
    'image.referrer.added': 'pushed; it refers to another image',
    'image.unwrapped': 'its layers were read, and it has a kernel',
    'build.reproduced': 'reproduced an earlier build',
    'build.diverged': 'differs from earlier builds of the same inputs',
    'build.failed': 'a build failed',
    'repository.deleted': 'deleted, with all of its tags and images',
    'deployment.created': `is deployed: ${to}`,
    'deployment.updated': `the deployment is ${state}`,
    'deployment.finished': `the deployment ended: ${state}${reason ? `: ${reason}` : ''}`,
    'deployment.target.changed': `is ${state}${reason ? `: ${reason}` : ''}`,
    'host.enrolled': state === 'pending' ? 'the host waits for approval' : 'the host is enrolled',
    'host.lost': 'the host sends no requests any more',
    'host.returned': 'the host sends requests again',
    'host.conflict': 'two machines report as this host: they have the same key',
    'webhook.disabled': `webhook disabled: ${detail}`,
  }
  return words[type] ?? type
}

function line(
  time: string,
  subject: string,
  change: string,
  unikernels: readonly { readonly target: string }[] = [],
): string {
  const targets = unikernels.map(({ target }) => target).join(', ')
  return `${utcText(time)}  ${subject}  ${change}${targets === '' ? '' : `  [${targets}]`}`
}
