import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { answeredPath, ROUTES } from '../attacks/route-paths.ts'
import { logIn } from '../auth/session-client.ts'
import { type PageSamples, SAMPLE_SETTINGS, seedPages } from '../browser/page-samples.ts'
import { grow } from '../costs/seed.ts'
import { recordStatements, statementsOf } from '../costs/statements.ts'
import { expectedOf } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

/**
 * Everything that a page sends to Postgres: its questions, `begin` and `commit`, and lookups of its repository and caller. A
 * session is looked up by the first of its requests in a minute, which is one statement more.
 */
const STATEMENTS_MAX = 3
const SESSION_LOOKUP = 'where s.secret_sha256 = $1'
/** The first page in UTF-8, not compressed, when each list has more rows than a page. */
const BYTES_MAX = 20_000
/** More than a page of each list. */
const ROWS = 300
const DRAWN = { timeout: 20_000, interval: 200 }

const PAGES = ROUTES.filter(
  ({ method, page, path }) => method === 'GET' && page && !path.startsWith('/assets/'),
).map(({ path }) => path)
/** Queries of pages that have nothing to show without one, or another content with one. */
const QUERIES: Readonly<Record<string, readonly string[]>> = {
  '/search': ['', '?q=hello', '?q=live', '?q=lwt', '?q=0123456789'],
  '/r/*repository/-/images/:reference/graph': ['', '?package=lwt'],
  '/packages/:ecosystem/:name': ['', '?version=%3C9'],
}

let registry: TestRegistry
let samples: PageSamples
let cookie: string

beforeAll(async () => {
  registry = await startRegistry(SAMPLE_SETTINGS)
  samples = await seedPages(registry)
  await withManyRows()
  for (const page of PAGES) {
    // The first request of a picture makes it, and keeps it for all others.
    for (const path of pathsOf(page)) {
      const isMade = async () => (await registry.anonymous(path)).headers.has('refresh')
      await vi.waitFor(async () => expect([path, await isMade()]).toEqual([path, false]), DRAWN)
    }
  }
  recordStatements()
})

afterAll(async () => {
  vi.restoreAllMocks()
  await samples.receiver.close()
  await registry.close()
})

async function withManyRows(): Promise<void> {
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  await grow(client, valuesOf(), 0, ROWS)
  await client.end()
}

function valuesOf() {
  const { repository, tag, present, kernel, build, deployment, webhook, delivery } = samples
  const { input_id: inputId } = expectedOf('hello-key-1')
  return {
    ...{ repository, tag, manifest: present, kernel, inputId, build, deployment },
    ...{ package: 'bigstringaf', webhook, event: delivery },
  }
}

function pathsOf(page: string): string[] {
  const pair = `${samples.first}...${samples.present}`
  const named = page.replace(':host', samples.hosts[0]?.name ?? '')
  const path = answeredPath(named, valuesOf()).replace(`${samples.tag}...${samples.tag}`, pair)
  return (QUERIES[page] ?? ['']).map((query) => `${path}${query}`)
}

/** The statements and bytes of an answer. */
async function costOf(path: string, headers: Readonly<Record<string, string>>) {
  let [status, bytes] = [0, 0]
  const sent = await statementsOf(async () => {
    const answer = await registry.anonymous(path, { headers })
    status = answer.status
    bytes = (await answer.arrayBuffer()).byteLength
  })
  return { status, bytes, texts: sent.map(({ text }) => text) }
}

describe.each(PAGES)('the page %s', (page) => {
  it('costs few statements and bytes, for strangers and for a session', async () => {
    for (const path of pathsOf(page)) {
      cookie = await logIn(registry, { name: 'admin', secret: registry.password })
      const stranger = await costOf(path, {})
      const first = await costOf(path, { cookie })
      const again = await costOf(path, { cookie })
      const lookups = first.texts.filter((text) => text.includes(SESSION_LOOKUP))
      for (const { status, bytes, texts } of [stranger, first, again]) {
        const others = texts.filter((text) => !lookups.includes(text))
        expect([path, status]).toEqual([path, expect.toBeOneOf([200, 303])])
        expect([path, others]).toEqual([path, others.slice(0, STATEMENTS_MAX)])
        expect([path, bytes]).toEqual([path, Math.min(bytes, BYTES_MAX)])
      }
      expect(lookups.length).toBeLessThanOrEqual(1)
      expect(again.texts.join()).not.toContain(SESSION_LOOKUP)
    }
  })
})
