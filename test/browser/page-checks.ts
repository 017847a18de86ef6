import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { HtmlValidate } from 'html-validate/node'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { expect } from 'vitest'

/** How a person looks at a page. */
export type View = {
  readonly name: string
  readonly width: number
  readonly height: number
  readonly theme: 'light' | 'dark'
  readonly hasScript: boolean
}

export const VIEWS: readonly View[] = [
  { name: 'desktop', width: 1280, height: 900, theme: 'light', hasScript: true },
  { name: 'desktop-dark', width: 1280, height: 900, theme: 'dark', hasScript: true },
  { name: 'phone', width: 360, height: 780, theme: 'light', hasScript: true },
  { name: 'phone-dark-without-script', width: 360, height: 780, theme: 'dark', hasScript: false },
]

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

const HTML_RULES = new HtmlValidate({
  extends: ['html-validate:recommended', 'html-validate:document', 'html-validate:a11y'],
  rules: {
    // A long list of tags has long titles, and preact writes void elements as XML does.
    'long-title': 'off',
    'void-style': ['error', { style: 'selfclosing' }],
    // HTML permits > in text, and preact leaves it.
    'no-raw-characters': 'off',
    // The box of a table is scrolled by keys.
    'prefer-native-element': 'error',
  },
})

/** Everything that is wrong with a page, as one line each. */
export type Faults = string[]

/** Opens a context in which a page is looked at. Faults of the browser are added to `faults`. */
export async function openView(
  browser: Browser,
  view: View,
  faults: Faults,
  cookies: Parameters<BrowserContext['addCookies']>[0] = [],
): Promise<{ context: BrowserContext; page: Page }> {
  const context = await browser.newContext({
    viewport: { width: view.width, height: view.height },
    colorScheme: view.theme,
    javaScriptEnabled: view.hasScript,
    timezoneId: 'UTC',
    locale: 'en',
  })
  if (cookies.length > 0) await context.addCookies(cookies)
  const page = await context.newPage()
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') {
      faults.push(`${page.url()} console: ${message.text()}`)
    }
  })
  page.on('pageerror', (error) => faults.push(`${page.url()} script: ${error.message}`))
  return { context, page }
}

/** Opens a page, and lists what is wrong with it: policy, script, accessibility, markup and width. */
export async function faultsOf(page: Page, url: string, view: View): Promise<Faults> {
  const answer = await page.goto(url)
  const faults: Faults = []
  if (answer === null || answer.status() >= 400) faults.push(`${url}: status ${answer?.status()}`)
  const where = `${new URL(url).pathname} (${view.name})`
  const { scroll, width } = await page.evaluate(() => ({
    scroll: document.documentElement.scrollWidth,
    width: document.documentElement.clientWidth,
  }))
  if (scroll > width) faults.push(`${where}: the page is ${scroll} wide in a window of ${width}`)
  if (view.hasScript) {
    faults.push(...(await accessibilityFaults(page)).map((fault) => `${where} ${fault}`))
  }
  const html = (await answer?.text()) ?? ''
  const { results } = await HTML_RULES.validateString(html)
  for (const { messages } of results) {
    faults.push(...messages.map((one) => `${where} HTML: ${one.ruleId}: ${one.message}`))
  }
  return faults
}

async function accessibilityFaults(page: Page): Promise<string[]> {
  // Evaluated by the debugger: the policy of the page stays as it is.
  await page.evaluate(AXE)
  return page.evaluate(async () => {
    const { axe } = globalThis as unknown as {
      axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> }
    }
    const { violations } = await axe.run()
    return violations.map(
      ({ id, nodes }) => `axe: ${id}: ${nodes.map((one) => one.html).join(' ')}`,
    )
  })
}

/** Asserts that there are no faults, and shows each that there is. */
export function expectNoFaults(faults: Faults): void {
  expect(faults).toEqual([])
}
