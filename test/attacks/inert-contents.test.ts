import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { pathOfRoute, ROUTES } from './route-paths.ts'
import { SCRIPT_SETTINGS, type StoredScripts, storeScripts } from './stored-scripts.ts'

const STREAM_MILLISECONDS_MAX = 5000
const HTML = /html|xml|javascript|css/

let registry: TestRegistry
let stored: StoredScripts
/** The fields whose scripts answers have. */
const answered = new Set<string>()

beforeAll(async () => {
  registry = await startRegistry(SCRIPT_SETTINGS)
  stored = await storeScripts(registry)
})
afterAll(() => registry.close())

/** Paths of a route that answer with stored scripts. */
function pathsOf(path: string): string[] {
  const { repository, image, annotated, kernel, plain, inputId, event } = stored
  const common = {
    ...{ inputId, event, host: stored.host },
    ...{ deployment: stored.deployment, tag: stored.tag, other: plain },
  }
  return [image, annotated, 'index'].flatMap((reference) =>
    [stored.build, stored.failedBuild].map((build) =>
      pathOfRoute(path, repository, {
        ...{ ...common, reference, build, format: 'cyclonedx', pair: `${plain}...${image}` },
        name: stored.webhook,
        digest: path.includes('/blobs/') || path.includes('/kernels/') ? kernel : image,
      }),
    ),
  )
}

async function read(path: string, accept: string) {
  const reading = new AbortController()
  const { signal } = reading
  const answer = await registry.request(path, { headers: { accept }, signal })
  // A stream does not end.
  const end = setTimeout(() => reading.abort(), STREAM_MILLISECONDS_MAX)
  const text = await answer.text().catch(() => '')
  clearTimeout(end)
  return { status: answer.status, headers: answer.headers, text }
}

describe('an answer with the text of a tenant', () => {
  const rows = ROUTES.filter(({ method }) => method === 'GET')

  it.each(rows.map(({ path }) => path))(
    'is no page unless a template made it: %s',
    async (path) => {
      const isPage = rows.some((row) => row.path === path && row.page === true)
      for (const target of new Set(pathsOf(path))) {
        const { status, headers, text } = await read(target, 'text/html,application/xhtml+xml,*/*')
        const type = headers.get('content-type') ?? ''
        expect(headers.get('x-content-type-options'), target).toBe('nosniff')
        if (!isPage) expect(type, target).not.toMatch(HTML)
        if (!isPage) expect(headers.get('content-security-policy'), target).toContain('sandbox')
        if (status !== 200) continue
        expect(type, target).not.toBe('')
        for (const [, field = ''] of text.matchAll(/ran\('([a-z-]+)'\)/g)) answered.add(field)
      }
    },
  )

  it('was read in these tests: the fields that no page shows are in the API', () => {
    expect([...answered]).toEqual(
      expect.arrayContaining([
        ...['readme', 'console', 'build-script', 'failed-console', 'failed-script'],
        ...['description', 'source-url', 'annotation', 'annotation-url', 'layer-type', 'os'],
        ...['webhook-url', 'webhook-description', 'webhook-header', 'webhook-body'],
        ...['agent', 'host-package', 'environment-line', 'unit-device'],
      ]),
    )
  })

  it.each(['console', 'script', 'readme'])('is text that a browser shows: %s', async (role) => {
    const of = `/api/v1/repositories/${stored.repository}`
    for (const path of [`images/${stored.image}/${role}`, `builds/${stored.build}/${role}`]) {
      const { status, headers, text } = await read(`${of}/${path}`, 'text/html')
      expect([status, headers.get('content-type')]).toEqual([200, 'text/plain; charset=utf-8'])
      expect(text).toContain('<script>')
    }
  })

  it('is a file to save: a kernel and a blob', async () => {
    const { repository, image, kernel } = stored
    for (const path of [
      `/v2/${repository}/blobs/${kernel}`,
      `/api/v1/repositories/${repository}/images/${image}/kernel`,
    ]) {
      const { headers } = await read(path, 'text/html')
      expect(headers.get('content-type')).toBe('application/octet-stream')
      expect(headers.get('content-disposition')).toMatch(/^attachment/)
    }
  })
})
