import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { pathOfRoute, ROUTES } from '../attacks/route-paths.ts'
import {
  SCRIPT_SETTINGS,
  type StoredScripts,
  scripts,
  storeScripts,
} from '../attacks/stored-scripts.ts'
import { logIn } from '../auth/session-client.ts'
import { clientPath, hasClient } from '../clients/client-sandbox.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { BROWSER_OPTIONS } from './browser-options.ts'
import { INERT_FORMS, INERT_PAGES, readContents } from './inert-pages.ts'

const SETTLING_MILLISECONDS = 200
const DRAWN = { timeout: 20_000, interval: 200 }
/** A character that hides or reorders text, or a control. */
const HIDDEN = /(?![\n\t])[\p{Cc}\p{Cf}]/u

let registry: TestRegistry
let stored: StoredScripts
let browser: Browser

beforeAll(async () => {
  if (!hasClient('chromium')) return
  registry = await startRegistry(SCRIPT_SETTINGS)
  stored = await storeScripts(registry)
  browser = await chromium.launch({
    executablePath: clientPath('chromium'),
    args: BROWSER_OPTIONS,
  })
  // Until its picture is made, a page loads itself again.
  for (const path of Object.values(INERT_PAGES).flatMap(({ paths }) => paths(stored))) {
    const isMade = async () => {
      expect((await registry.request(path)).headers.get('refresh'), path).toBeNull()
    }
    await vi.waitFor(isMade, DRAWN)
  }
})

afterAll(async () => {
  await browser?.close()
  await registry?.close()
})

type Reader = {
  readonly context: BrowserContext
  readonly page: Page
  /** Everything that went wrong, one line each. */
  readonly faults: string[]
}

/** Opens the browser of a person; without the policy of pages only the escaping of texts protects it. */
async function openBrowser(who: 'stranger' | 'administrator', bypassCSP = false): Promise<Reader> {
  const context = await browser.newContext({ bypassCSP })
  const faults: string[] = []
  if (who === 'administrator') {
    const cookie = await logIn(registry, { name: 'admin', secret: registry.password })
    const [name = '', value = ''] = cookie.split('=')
    await context.addCookies([{ name, value, url: registry.url }])
  }
  const page = await context.newPage()
  await context.exposeFunction('ran', (field: string) => {
    faults.push(`${page.url()}: the script in ${field} ran`)
  })
  context.on('request', (request) => {
    const url = request.url()
    if (!url.startsWith(`${registry.url}/`) && url !== 'data:,') {
      faults.push(`${page.url()}: a request to ${url}`)
    }
  })
  page.on('pageerror', (error) => faults.push(`${page.url()}: ${error.message}`))
  page.on('dialog', (dialog) => faults.push(`${page.url()}: a dialog ${dialog.message()}`))
  page.on('console', (message) => {
    // The status of an error page is a message, too.
    const isStatus = /^Failed to load resource: the server responded with a status of [45]/.test(
      message.text(),
    )
    if (!isStatus && (message.type() === 'error' || message.type() === 'warning')) {
      faults.push(`${page.url()}: ${message.text()}`)
    }
  })
  return { context, page, faults }
}

/** Adds what is wrong with the open page to the faults, and returns the fields whose scripts are text in it. */
async function inspect({ page, faults }: Reader): Promise<string[]> {
  const { foreign, text } = await readContents(page)
  faults.push(...foreign.map((element) => `${page.url()} has ${element}`))
  const hidden = HIDDEN.exec(text)
  if (hidden !== null) faults.push(`${page.url()} has U+${hidden[0].charCodeAt(0).toString(16)}`)
  return [...text.matchAll(/ran\('([a-z0-9-]+)'\)/g)].map(([, field = '']) => field)
}

/** Opens all pages, and returns the fields that each shows, by the path of its route. */
async function openAll(reader: Reader): Promise<Map<string, ReadonlySet<string>>> {
  const shown = new Map<string, ReadonlySet<string>>()
  for (const [route, { paths }] of Object.entries(INERT_PAGES)) {
    const fields = new Set<string>()
    for (const path of paths(stored)) {
      const answer = await reader.page.goto(`${registry.url}${path}`)
      const status = answer?.status() ?? 0
      if (![200, 400, 401, 403, 404].includes(status)) reader.faults.push(`${path} is ${status}`)
      for (const field of await inspect(reader)) fields.add(field)
    }
    shown.set(route, fields)
  }
  await reader.page.waitForTimeout(SETTLING_MILLISECONDS)
  return shown
}

const pagesOf = (method: string) =>
  ROUTES.filter((route) => route.page && route.method === method)
    .map(({ path }) => path)
    .filter((path) => !path.startsWith('/assets/'))

describe.skipIf(!hasClient('chromium'))('the table of pages with stored scripts', () => {
  it('has every page and every form', () => {
    const pages = pagesOf('GET').filter((path) => INERT_PAGES[path] === undefined)
    const forms = pagesOf('POST').filter((path) => INERT_FORMS[path] === undefined)
    const add =
      'add a row to test/browser/inert-pages.ts: its paths and the fields that it shows; store scripts in further fields in test/attacks/stored-scripts.ts'
    expect(pages, `a page without a row: ${add}`).toEqual([])
    expect(forms, `a form without a row: ${add}`).toEqual([])
  })
})

describe.skipIf(!hasClient('chromium'))('scripts that are stored in any field', () => {
  it('would run in a page that does not escape them, so that these tests can fail', async () => {
    const reader = await openBrowser('stranger', true)
    await reader.page.route('**/page', (route) =>
      route.fulfill({ contentType: 'text/html', body: scripts('a-page').join('\n') }),
    )
    // Without an answer, a page stays when a text leads to the other site.
    await reader.page.route('https://other.example/', (route) => route.fulfill({ status: 204 }))
    await reader.page.goto(`${registry.url}/page`)
    await inspect(reader)
    await expect
      .poll(() => reader.faults.filter((one) => one.endsWith('a-page ran')).length)
      .toBeGreaterThan(3)
    for (const what of [
      'a request to https://other.example/',
      'has <iframe',
      'has <a href="java',
    ]) {
      expect(
        reader.faults.filter((one) => one.includes(what)),
        what,
      ).not.toEqual([])
    }
    await reader.context.close()
  })

  it.each([
    ['stranger', 'with'],
    ['stranger', 'without'],
    ['administrator', 'without'],
  ] as const)('are text in every page: a %s, %s its policy', async (who, policy) => {
    const reader = await openBrowser(who, policy === 'without')
    await openAll(reader)
    await reader.context.close()
    expect(reader.faults).toEqual([])
  })

  it('are text in every page, and are there: an administrator', async () => {
    const reader = await openBrowser('administrator')
    const shown = await openAll(reader)
    await reader.context.close()
    expect(reader.faults).toEqual([])
    const missing = Object.entries(INERT_PAGES).flatMap(([route, { shows }]) =>
      shows.filter((field) => !shown.get(route)?.has(field)).map((field) => `${route}: ${field}`),
    )
    expect(missing).toEqual([])
  })

  it.each(['with', 'without'])(
    'are text in what answers to a form, %s its policy',
    async (policy) => {
      const reader = await openBrowser('administrator', policy === 'without')
      const { page } = reader
      for (const [route, fields] of Object.entries(INERT_FORMS)) {
        const { tag, deployment, event, host, webhook: name } = stored
        const values = { tag, deployment, event, host, name }
        const action = pathOfRoute(route, stored.repository, values)
        await page.goto(`${registry.url}/search`)
        await Promise.all([
          page.waitForEvent('framenavigated'),
          page.evaluate(
            ([path = '', entries = '']) => {
              const form = document.createElement('form')
              Object.assign(form, { method: 'post', action: path })
              for (const [name, value] of JSON.parse(entries)) {
                form.append(Object.assign(document.createElement('input'), { name, value }))
              }
              document.body.append(form)
              form.submit()
            },
            [action, JSON.stringify(Object.entries(fields))],
          ),
        ])
        await page.waitForLoadState()
        await inspect(reader)
      }
      await page.waitForTimeout(SETTLING_MILLISECONDS)
      await reader.context.close()
      expect(reader.faults).toEqual([])
    },
  )
})
