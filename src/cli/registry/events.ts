import { setTimeout as delay } from 'node:timers/promises'
import { RegistryResponseError, RegistryUnreachableError } from '../../client/errors.ts'
import type { RegistryApi } from '../../client/registry-api.ts'
import { type Command, STATUS } from '../command.ts'
import { printJson, printLines, visible } from '../printing.ts'
import { parseNamedRegistry, queryOf, shortDigest, withApi } from './registry-api.ts'
import { parseWords } from './registry-commands.ts'
import { LOGIN_OPTIONS, LOGIN_USAGE } from './registry-login.ts'

/** What a page of the feed has: spec/openapi.yaml, followEvents. */
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
    readonly reason?: string
    readonly detail?: string
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

/** A page waits for so long when nothing happens. */
const WAIT_SECONDS = 25
const PAGE = 1000
const PAGES_MAX = 1_000_000
const FIRST_WAIT_MILLISECONDS = 500
const WAIT_MILLISECONDS_MAX = 30_000

/** `rookery events`: what happens in a registry, as its feed tells it. */
export const eventsCommand: Command = {
  words: ['events'],
  usage: `HOST [--repository GLOB...] [--tag GLOB...] [--type TYPE...] [--after CURSOR] [--snapshot] [--follow] ${LOGIN_USAGE} [--json]`,
  summary:
    'Show what happened behind a cursor; --follow goes on with what happens, and comes back when cut off',
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      {
        repository: { type: 'string', multiple: true },
        tag: { type: 'string', multiple: true },
        type: { type: 'string', multiple: true },
        after: { type: 'string' },
        snapshot: { type: 'boolean', default: false },
        follow: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        ...LOGIN_OPTIONS,
      },
      { least: 1, most: 1, expected: 'HOST' },
    )
    const { repository = [], tag = [], type = [], snapshot, follow, json } = values
    const wanted = new URLSearchParams()
    for (const glob of repository) wanted.append('repository', glob)
    for (const glob of tag) wanted.append('tag', glob)
    for (const one of type) wanted.append('type', one)
    const named = () => parseNamedRegistry(positionals[0] ?? '', values)
    return withApi(named, values, environment, async (api) => {
      const reader = new Reader(api, wanted.toString(), values.after, snapshot)
      const show = (page: Page) => print(page, json)
      if (follow) await untilInterrupted((signal) => followFeed(reader, show, signal))
      else await readToEnd(reader, show)
      if (reader.cursor !== undefined) sayCursor(reader.cursor, json)
      return STATUS.ok
    })
  },
}

/** Reads one page after the other. */
class Reader {
  readonly #api: RegistryApi
  readonly #wanted: string
  #cursor: string | undefined
  #snapshot: boolean

  constructor(api: RegistryApi, wanted: string, cursor: string | undefined, snapshot: boolean) {
    this.#api = api
    this.#wanted = wanted
    this.#cursor = cursor
    this.#snapshot = snapshot
  }

  /** Where it would go on; undefined before the first page, without a place to begin. */
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
    const path = `/api/v1/events${query}${this.#wanted === '' ? '' : `&${this.#wanted}`}`
    // The API of a Rookery answers so; what others answer has no events.
    const page = (await this.#api.find(path, 'the feed of events')) as Partial<Page>
    if (!Array.isArray(page.events) || typeof page.cursor !== 'string') {
      throw new RegistryResponseError(
        'the registry does not answer like a Rookery: it has no feed',
        {
          status: 502,
        },
      )
    }
    this.#cursor = page.cursor
    return page as Page
  }
}

async function readToEnd(reader: Reader, show: (page: Page) => void): Promise<void> {
  for (let pages = 0; pages < PAGES_MAX; pages += 1) {
    const page = await reader.next(0)
    show(page)
    if (!page.more) return
  }
}

async function followFeed(
  reader: Reader,
  show: (page: Page) => void,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0
  while (!signal.aborted) {
    try {
      const page = await reader.next(WAIT_SECONDS)
      if (failures > 0) say('connected again')
      failures = 0
      show(page)
    } catch (error) {
      if (signal.aborted || !isPassing(error)) throw error
      if (failures === 0) say(`${(error as Error).message}; coming back until it answers`)
      failures += 1
      const grown =
        FIRST_WAIT_MILLISECONDS * 2 ** Math.min(failures, 10) * (0.75 + Math.random() / 2)
      await delay(Math.min(grown, WAIT_MILLISECONDS_MAX), undefined, { signal })
    }
  }
}

/** A registry that is being started again refuses connections; one that is no Rookery stays so. */
function isPassing(error: unknown): boolean {
  if (error instanceof RegistryUnreachableError) return true
  return error instanceof RegistryResponseError && (error.status === 429 || error.status >= 500)
}

/** Runs until it fails, or until somebody has seen enough. */
async function untilInterrupted(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController()
  const { signal } = controller
  const interrupted = new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort())
  const working = work(signal)
  // What fails after the interruption interests nobody.
  working.catch(() => {})
  await Promise.race([working, interrupted])
}

function say(text: string): void {
  process.stderr.write(`rookery: ${visible(text)}\n`)
}

/** So that whoever looks again sees nothing twice and misses nothing. */
function sayCursor(cursor: string, json: boolean): void {
  if (json) printJson({ cursor })
  else say(`--after ${cursor} goes on from here`)
}

function print({ events, reset, snapshot = [] }: Page, json: boolean): void {
  if (reset !== undefined) {
    say(
      `what happened since the cursor cannot be told any more (${reset.reason}): going on from now`,
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
  return line(time, subject, happened(type, data), data.unikernels)
}

function happened(type: string, { digest, previousDigest, reason, detail }: ShownEvent['data']) {
  const [to, from] = [digest, previousDigest].map((one) => (one ? shortDigest(one) : 'nothing'))
  if (type === 'image.tag.updated') {
    return `${reason === 'rollback' ? 'went back to' : 'moved to'} ${to} from ${from}`
  }
  if (type === 'image.tag.deleted') return `deleted; it was at ${from}`
  const words: Readonly<Record<string, string>> = {
    'image.pushed': 'pushed',
    'image.deleted': 'deleted',
    'image.referrer.added': 'pushed, about another image',
    'webhook.disabled': `webhook disabled: ${detail}`,
  }
  return words[type] ?? type
}

function line(
  time: string,
  subject: string,
  what: string,
  unikernels: readonly { readonly target: string }[] = [],
): string {
  const targets = unikernels.map(({ target }) => target).join(', ')
  return `${time.slice(0, 19)}Z  ${subject}  ${what}${targets === '' ? '' : `  [${targets}]`}`
}
