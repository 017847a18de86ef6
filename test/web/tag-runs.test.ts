import { afterAll, beforeAll, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { KERNEL, OTHER, OTHER_KERNEL, report } from '../deployments/reporting.ts'
import { pushBuild } from '../images/image-fixtures.ts'
import { enrolHost } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const REPOSITORY = 'web/www'
const TIME = '\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d UTC'
const RUNS = new RegExp(`✓ runs on web-1 since ${TIME}`)
const RAN = new RegExp(`○ ran on web-1 , from ${TIME} until ${TIME}`)

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
  const host = await enrolHost(registry, { name: 'web-1', repositories: ['web/*'] })
  const elsewhere = await enrolHost(registry, { name: 'elsewhere', repositories: ['other/*'] })
  const follows = { repository: REPOSITORY, tag: 'live' }
  await pushBuild(registry, 'other/www', 'live', 'hello-key-1')
  const run = (kernel: string) => report(host, { follows, kernel, state: 'healthy' })
  // The tag has the same image twice, and the host ran it each time.
  for (const [build, kernel] of [
    ['hello-key-1', KERNEL],
    [OTHER, OTHER_KERNEL],
    ['hello-key-1', KERNEL],
    ['hello-key-2', KERNEL],
  ] as const) {
    await pushBuild(registry, REPOSITORY, 'live', build)
    await run(kernel)
  }
  const other = { repository: 'other/www', tag: 'live' }
  await report(elsewhere, { follows: other, kernel: KERNEL, state: 'healthy' })
})
afterAll(() => registry.close())

async function page(headers: Record<string, string>): Promise<string> {
  const answer = await registry.anonymous(`/r/${REPOSITORY}/-/tags/live`, { headers })
  expect(answer.status).toBe(200)
  return answer.text()
}

/** The words of each position, newest first. */
const positionsOf = (text: string) =>
  (/<ol class="timeline">.*?<\/ol>/s.exec(text)?.[0] ?? '')
    .split('<li')
    .slice(1)
    .map((one) => one.replace(/<[^>]+>/g, ' ').replace(/\s+/g, ' '))

const holder = async (actions: ('pull' | 'push')[]) => {
  const made = await makeCredential(registry, { repositories: ['web/*'], actions })
  return { authorization: basic(made.name, made.secret) }
}

it('the history of a tag says where each position ran, and since when', async () => {
  const text = await page({ authorization: basic('admin', registry.password) })
  const [newest, present, middle, oldest, ...others] = positionsOf(text)
  expect(others).toEqual([])
  expect(newest).not.toMatch(/runs|ran/)
  expect(present).toMatch(RUNS)
  expect(middle).toMatch(RAN)
  expect(oldest).toMatch(RAN)
  expect(text).toContain('<a href="/hosts/web-1">web-1</a>')
  expect(text).not.toContain('elsewhere')
  expect(text.length).toBeLessThan(20_000)
})

it('names hosts to those who may push, and to nobody else', async () => {
  const pusher = await page(await holder(['pull', 'push']))
  expect(positionsOf(pusher).join()).toMatch(RUNS)
  expect(pusher).not.toContain('/hosts/web-1')
  expect(await page(await holder(['pull']))).not.toContain('web-1')
  expect(await page({})).not.toContain('web-1')
})

it('shows each deployment once, at the position that it made', async () => {
  const text = await page({ authorization: basic('admin', registry.password) })
  const numbers = positionsOf(text).map((position) =>
    [...position.matchAll(/Deployment (\d+)/g)].map(([, number]) => Number(number)),
  )
  expect(numbers).toEqual([[3], [2], [1], []])
})
