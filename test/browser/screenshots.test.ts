import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Browser, type BrowserContext, chromium } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { basic } from '../auth/credentials-client.ts'
import { clientPath, hasClient } from '../clients/client-sandbox.ts'
import { ROOT } from '../house/tree.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { BROWSER_OPTIONS } from './browser-options.ts'
import { type PageSamples, SAMPLE_SETTINGS, seedPages } from './page-samples.ts'

const PICTURES = 'docs/pictures'
const PICTURE_BYTES_MAX = 60_000
const ALL_BYTES_MAX = 400_000
const QUALITY_PERCENT = 75
/** The pages show how long ago something was: with this clock, all of it was minutes ago. */
const AHEAD_MILLISECONDS = 3 * 60_000
const DRAWN = { timeout: 20_000, interval: 200 }
const NAME = 'registry.example.org'
const SETTINGS = { ...SAMPLE_SETTINGS, ROOKERY_PUBLIC_URL: `https://${NAME}` }

const DESKTOP = { width: 1120, height: 760 }
const PHONE = { width: 390, height: 780 }

type Screenshot = {
  readonly path: (samples: PageSamples) => string
  readonly size?: { readonly width: number; readonly height: number }
  readonly theme?: 'dark'
  readonly isLoggedIn?: boolean
  /** The page of a registry without content. */
  readonly isEmpty?: boolean
}

/** The pictures of docs/pages.md by their file names. */
const SCREENSHOTS: Readonly<Record<string, Screenshot>> = {
  'first-push': { path: () => '/', isEmpty: true },
  repository: { path: ({ repository }) => `/r/${repository}` },
  image: { path: ({ repository, present }) => `/r/${repository}/-/images/${present}` },
  comparison: {
    path: ({ repository, first, withTwin }) => `/r/${repository}/-/compare/${first}...${withTwin}`,
  },
  dependencies: {
    path: ({ repository, present }) => `/r/${repository}/-/images/${present}/graph`,
    theme: 'dark',
  },
  sizes: { path: ({ repository, withTwin }) => `/r/${repository}/-/images/${withTwin}/size` },
  deployment: { path: ({ deployment }) => `/deployments/${deployment}`, isLoggedIn: true },
  hosts: { path: () => '/hosts', isLoggedIn: true },
  tag: {
    path: ({ repository, tag }) => `/r/${repository}/-/tags/${tag}`,
    size: PHONE,
    isLoggedIn: true,
  },
}

/** `npm run screenshots` writes the pictures of the documents. */
const folder = process.env.SCREENSHOTS

let registry: TestRegistry
let empty: TestRegistry
let samples: PageSamples
let browser: Browser
let browserOfEmpty: Browser

beforeAll(async () => {
  if (!hasClient('chromium')) return
  registry = await startRegistry(SETTINGS)
  empty = await startRegistry(SETTINGS)
  samples = await seedPages(registry)
  for (const { path } of Object.values(SCREENSHOTS)) {
    const answer = () => registry.request(path(samples))
    const isReloaded = async () => (await answer()).headers.has('refresh')
    await vi.waitFor(async () => expect(await isReloaded()).toBe(false), DRAWN)
  }
  browser = await browserAt(registry)
  browserOfEmpty = await browserAt(empty)
})

afterAll(async () => {
  await browser?.close()
  await browserOfEmpty?.close()
  await registry?.close()
  await empty?.close()
})

/** Starts a browser in which the registry has a name. */
function browserAt({ url }: TestRegistry): Promise<Browser> {
  return chromium.launch({
    executablePath: clientPath('chromium'),
    args: [...BROWSER_OPTIONS, `--host-resolver-rules=MAP ${NAME} ${new URL(url).host}`],
  })
}

function contextOf(one: Screenshot): Promise<BrowserContext> {
  const { size = DESKTOP, theme = 'light', isLoggedIn, isEmpty } = one
  return (isEmpty ? browserOfEmpty : browser).newContext({
    ...{ viewport: size, colorScheme: theme, locale: 'en', timezoneId: 'UTC' },
    ...(isLoggedIn && { extraHTTPHeaders: { authorization: basic('admin', registry.password) } }),
  })
}

/** Opens the page, and returns its picture as WebP. */
async function take(one: Screenshot): Promise<Buffer> {
  const context = await contextOf(one)
  const page = await context.newPage()
  await page.clock.setFixedTime(Date.now() + AHEAD_MILLISECONDS)
  const answer = await page.goto(`http://${NAME}${one.path(samples)}`)
  expect(answer?.status()).toBe(200)
  const session = await context.newCDPSession(page)
  const { data } = await session.send('Page.captureScreenshot', {
    format: 'webp',
    quality: QUALITY_PERCENT,
  })
  await context.close()
  return Buffer.from(data, 'base64')
}

describe.skipIf(!hasClient('chromium'))('the pictures of the documents', () => {
  it('can be taken, and are small', async () => {
    const taken = new Map<string, Buffer>()
    for (const [name, one] of Object.entries(SCREENSHOTS)) {
      const picture = await take(one)
      expect(picture.subarray(8, 12).toString(), name).toBe('WEBP')
      expect(picture.length, name).toBeLessThan(PICTURE_BYTES_MAX)
      taken.set(`${name}.webp`, picture)
    }
    const all = [...taken.values()].reduce((sum, { length }) => sum + length, 0)
    expect(all).toBeLessThan(ALL_BYTES_MAX)
    if (folder === undefined) return
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder, { recursive: true })
    for (const [file, picture] of taken) writeFileSync(join(folder, file), picture)
  })

  it('are all there, and are all shown', () => {
    const files = Object.keys(SCREENSHOTS).map((name) => `${name}.webp`)
    expect(readdirSync(join(ROOT, PICTURES)).sort()).toEqual(files.sort())
    const page = readFileSync(join(ROOT, 'docs/pages.md'), 'utf8')
    const shown = [...page.matchAll(/!\[[^\]]+\]\(pictures\/([^)]+)\)/g)].map(([, file]) => file)
    expect(shown.sort()).toEqual(files)
  })
})
