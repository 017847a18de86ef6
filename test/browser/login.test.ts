import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { clientPath, hasClient } from '../clients/client-sandbox.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { BROWSER_OPTIONS } from './browser-options.ts'

const NAVIGATION_MILLISECONDS_MAX = 10_000

let registry: TestRegistry
/** The registry as a person on its machine opens it. */
let home: string
let otherSite: Server
let other: string
let browser: Browser

beforeAll(async () => {
  if (!hasClient('chromium')) return
  registry = await startRegistry()
  const { port } = new URL(registry.url)
  home = `http://localhost:${port}`
  otherSite = createServer((req, res) => {
    const { pathname, searchParams } = new URL(req.url ?? '', 'http://other')
    const fields = [...searchParams].map(
      ([name, value]) => `<input name="${name}" value="${value}">`,
    )
    res
      .setHeader('content-type', 'text/html')
      .end(
        `<form method="post" action="${home}${pathname}">${fields.join('')}<button>Win</button></form>`,
      )
  }).listen(0, '127.0.0.1')
  await once(otherSite, 'listening')
  // To a browser, localhost and 127.0.0.1 are two sites.
  other = `http://127.0.0.1:${(otherSite.address() as AddressInfo).port}`
  browser = await chromium.launch({ executablePath: clientPath('chromium'), args: BROWSER_OPTIONS })
})

afterAll(async () => {
  await browser?.close()
  otherSite?.close()
  await registry?.close()
})

/** Runs `work` in a browser of its own. */
async function inBrowser(
  work: (page: Page, context: BrowserContext) => Promise<void>,
  javaScriptEnabled = true,
): Promise<void> {
  const context = await browser.newContext({ javaScriptEnabled })
  const page = await context.newPage()
  page.setDefaultTimeout(NAVIGATION_MILLISECONDS_MAX)
  const faults: string[] = []
  page.on('console', (message) => {
    // A refused form is in the console, too.
    if (message.type() === 'error' && !/status of 403/.test(message.text()))
      faults.push(message.text())
  })
  try {
    await work(page, context)
    expect(faults).toEqual([])
  } finally {
    await context.close()
  }
}

async function logIn(page: Page, secret = registry.password): Promise<void> {
  await page.getByLabel('Name').fill('admin')
  await page.getByLabel('Password, secret or token').fill(secret)
  await page.locator('main').getByRole('button', { name: 'Log in' }).click()
}

const banner = (page: Page) => page.getByRole('banner')

describe.skipIf(!hasClient('chromium'))('a person with a browser', () => {
  it.each([true, false])('logs in and out, with script: %s', async (hasScript) => {
    await inBrowser(async (page, context) => {
      await page.goto(`${home}/repositories`)
      await banner(page).getByRole('link', { name: 'Log in' }).click()
      await logIn(page, 'a wrong password')
      await page.getByText('Not logged in: wrong user name or password.').waitFor()
      expect(await page.getByLabel('Name').inputValue()).toBe('admin')
      await logIn(page)
      await banner(page).getByText('admin', { exact: true }).waitFor()
      expect(page.url()).toBe(`${home}/repositories`)
      expect(await context.cookies()).toEqual([
        expect.objectContaining({
          ...{ name: 'rookery', value: expect.stringMatching(/^rks_/), domain: 'localhost' },
          ...{ path: '/', httpOnly: true, secure: false, sameSite: 'Lax' },
        }),
      ])
      await banner(page).getByRole('button', { name: 'Log out' }).click()
      await banner(page).getByRole('link', { name: 'Log in' }).waitFor()
      expect([page.url(), await context.cookies()]).toEqual([`${home}/`, []])
    }, hasScript)
  })

  it('comes from a link on another site and is still logged in', async () => {
    await inBrowser(async (page) => {
      await page.goto(`${home}/login`)
      await logIn(page)
      await page.goto(`${other}/`)
      await page.setContent(`<a href="${home}/repositories">here</a>`)
      await page.getByRole('link', { name: 'here' }).click()
      await banner(page).getByText('admin', { exact: true }).waitFor()
    })
  })

  it('loses no login, and gets none of a stranger, by a form of another site', async () => {
    await inBrowser(async (page, context) => {
      await page.goto(`${home}/login`)
      await logIn(page)
      await banner(page).getByText('admin', { exact: true }).waitFor()
      const before = await context.cookies()
      for (const path of ['/logout', `/login?name=admin&secret=${registry.password}`]) {
        await page.goto(`${other}${path}`)
        await page.getByRole('button', { name: 'Win' }).click()
        await page.getByText('a page of another site may not send this request').waitFor()
      }
      expect(await context.cookies()).toEqual(before)
      await page.goto(home)
      await banner(page).getByText('admin', { exact: true }).waitFor()
    })
  })
})
