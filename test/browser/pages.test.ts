import { mkdirSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { logIn } from '../auth/session-client.ts'
import { clientPath, hasClient } from '../clients/client-sandbox.ts'
import { expectedOf } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { BROWSER_OPTIONS } from './browser-options.ts'
import { expectNoFaults, type Faults, faultsOf, openView, VIEWS, type View } from './page-checks.ts'
import { type PageSamples, SAMPLE_SETTINGS, seedPages } from './page-samples.ts'

let registry: TestRegistry
let browser: Browser
let samples: PageSamples
const DRAWN = { timeout: 20_000, interval: 200 }

beforeAll(async () => {
  if (!hasClient('chromium')) return
  registry = await startRegistry(SAMPLE_SETTINGS)
  samples = await seedPages(registry)
  // Until its picture is made, a page loads itself again, which would end a check.
  for (const path of Object.values(publicPages())) {
    const reloads = async () => (await registry.anonymous(path)).headers.has('refresh')
    await vi.waitFor(async () => expect([path, await reloads()]).toEqual([path, false]), DRAWN)
  }
  browser = await chromium.launch({
    executablePath: clientPath('chromium'),
    args: BROWSER_OPTIONS,
  })
})

afterAll(async () => {
  await browser?.close()
  await samples?.receiver.close()
  await registry?.close()
})

/** The pages that anybody sees, by a name. */
function publicPages(): Record<string, string> {
  const { repository, longRepository, tag, present, withTwin, kernel } = samples
  return {
    start: '/',
    login: '/login',
    repositories: '/repositories',
    repository: `/r/${repository}`,
    'repository-with-a-long-name': `/r/${longRepository}`,
    tags: `/r/${repository}/-/tags`,
    tag: `/r/${repository}/-/tags/${tag}`,
    dependencies: `/r/${repository}/-/images/${present}/graph`,
    'why-a-package': `/r/${repository}/-/images/${present}/graph?package=lwt`,
    sizes: `/r/${repository}/-/images/${withTwin}/size`,
    search: '/search?q=hel',
    'search-without-a-hit': '/search?q=nothing-is-called-so',
    packages: '/packages',
    package: '/packages/opam/bigstringaf?version=%3C9',
    kernel: `/kernels/${kernel}`,
    inputs: `/inputs/${expectedOf('hello-key-1').input_id}`,
    builds: `/r/${repository}/-/builds`,
    build: `/r/${repository}/-/builds/${samples.build}`,
    images: `/r/${repository}/-/images`,
    comparison: `/r/${repository}/-/compare/${samples.first}...${samples.present}`,
    image: `/r/${repository}/-/images/${samples.present}`,
  }
}

/** The pages that need a login, by a name. */
function ownPages(): Record<string, string> {
  const { deployment, webhook } = samples
  return {
    deployments: '/deployments',
    deployment: `/deployments/${deployment}`,
    'start-with-hosts': '/',
    'tag-with-hosts': `/r/${samples.repository}/-/tags/${samples.tag}`,
    hosts: '/hosts',
    'hosts-that-wait': '/hosts?state=pending',
    host: '/hosts/web-2',
    'host-with-many-units': '/hosts/many-units-on-one-host.example.org',
    'host-without-units': '/hosts/never-called',
    'host-that-waits': '/hosts/waits',
    webhooks: '/webhooks',
    credentials: '/credentials',
    webhook: `/webhooks/${webhook}`,
    'webhook-that-waits': `/webhooks/${webhook}?state=pending`,
    delivery: `/webhooks/${webhook}/deliveries/${samples.delivery}`,
  }
}

/** The cookie of the administrator's session. */
async function sessionCookie() {
  const cookie = await logIn(registry, { name: 'admin', secret: registry.password })
  const [name = '', value = ''] = cookie.split('=')
  return { name, value, url: registry.url }
}

/** A folder for pictures of every page, to look at. */
const { PAGE_PICTURES } = process.env

describe.skipIf(!hasClient('chromium'))('pages in a browser', () => {
  it.each(VIEWS)('have no faults: $name', (view) => expectSound(view, publicPages(), []))

  it.each(VIEWS)('have no faults for a reader who is logged in: $name', async (view) => {
    await expectSound(view, ownPages(), [await sessionCookie()])
  })

  async function expectSound(
    view: View,
    pages: Record<string, string>,
    cookies: Parameters<typeof openView>[3],
  ) {
    const faults: Faults = []
    const { context, page } = await openView(browser, view, faults, cookies)
    for (const [name, path] of Object.entries(pages)) {
      faults.push(...(await faultsOf(page, `${registry.url}${path}`, view)))
      if (PAGE_PICTURES === undefined) continue
      mkdirSync(PAGE_PICTURES, { recursive: true })
      await page.screenshot({ path: `${PAGE_PICTURES}/${name}-${view.name}.png`, fullPage: true })
    }
    await context.close()
    expectNoFaults(faults)
  }
})
