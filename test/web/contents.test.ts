import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OTHER, OTHER_KERNEL, report } from '../deployments/reporting.ts'
import { expectedOf, pushBuild } from '../images/image-fixtures.ts'
import { enrolHost } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let newest: string
const REPOSITORY = 'hello/key'
const { input_id: INPUTS, main_binary_sha256: KERNEL } = expectedOf('hello-key-2')

beforeAll(async () => {
  registry = await startRegistry()
  await pushBuild(registry, REPOSITORY, '1.0', 'hello-key-2')
  newest = await pushBuild(registry, REPOSITORY, 'live', OTHER)
  await pushBuild(registry, 'secret/key', 'live', 'hello-key-2')
  await registry.request('/api/v1/repositories/secret/key/settings', {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ visibility: 'private' }),
  })
  const host = await enrolHost(registry, { name: 'web-1' })
  await report(host, {
    follows: { repository: REPOSITORY, tag: 'live' },
    kernel: OTHER_KERNEL,
    state: 'healthy',
  })
})

afterAll(() => registry.close())

const asStranger = async (path: string) => (await registry.anonymous(path)).text()
const asMember = async (path: string) => (await registry.request(path)).text()

/** The text of a page without its markup. */
const textOf = (html: string) => html.replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ')

describe('the page of a package', () => {
  it('shows who has which version, and how that is known', async () => {
    const page = textOf(await asStranger('/packages/opam/bigstringaf'))
    expect(page).toMatch(/0\.\d+\.\d+ hello\/key/)
    expect(page).toContain('list of installed packages')
    expect(page).not.toContain('secret/key')
    expect(await asMember('/packages/opam/bigstringaf')).toContain('secret/key')
  })

  it('selects by a constraint', async () => {
    const path = (version: string) =>
      `/packages/opam/bigstringaf?${new URLSearchParams({ version })}`
    expect(await asStranger(path('>= 0.1'))).toContain(newest)
    const none = await asStranger(path('< 0.1'))
    expect(none).not.toContain(newest)
    expect(textOf(none)).toContain('No image that you may see has it in such a version.')
  })

  it('says what is wrong with a constraint', async () => {
    const answer = await registry.anonymous('/packages/opam/bigstringaf?version=%3C')
    expect(answer.status).toBe(400)
    expect(textOf(await answer.text())).toContain('expected a version, found the end')
  })

  it('marks what runs, for those who may see hosts', async () => {
    const page = await asMember('/packages/opam/bigstringaf')
    expect(page).toContain('web-1')
    expect(await asStranger('/packages/opam/bigstringaf')).not.toContain('web-1')
  })

  it('is found by the form', async () => {
    const answer = await registry.anonymous(
      '/packages?ecosystem=opam&name=bigstringaf&version=%3C+1',
    )
    expect([answer.status, answer.headers.get('location')]).toEqual([
      303,
      '/packages/opam/bigstringaf?version=%3C+1',
    ])
    expect(await asStranger('/packages')).toContain('<form class="fields" action="/packages"')
  })

  it('has pages', async () => {
    const pushes = Array.from({ length: 20 }, (_, index) =>
      pushBuild(registry, `many/key${index}`, 'live', 'hello-key-2'),
    )
    await Promise.all(pushes)
    const first = await asStranger('/packages/opam/bigstringaf?version=%3E0')
    const [path = ''] = /(?<=rel="next" href=")[^"]*/.exec(first) ?? []
    const second = await asStranger(path.replaceAll('&amp;', '&'))
    expect(first).not.toContain('hello/key')
    expect(second).toContain('hello/key')
    expect(first.length).toBeLessThan(20_000)
  })
})

describe('the page of a kernel', () => {
  it('shows its images, and where it runs', async () => {
    const page = await asMember(`/kernels/${OTHER_KERNEL}`)
    expect(page).toContain(newest)
    expect(page).toContain('web-1')
    expect(page).toContain(`href="/inputs/${INPUTS}"`)
    expect(await asStranger(`/kernels/${OTHER_KERNEL}`)).not.toContain('web-1')
  })

  it('says that nobody has it', async () => {
    const page = textOf(await asStranger(`/kernels/sha256:${'0'.repeat(64)}`))
    expect(page).toContain('No image that you may see has this kernel.')
  })
})

describe('the page of inputs', () => {
  it('shows who made which kernel', async () => {
    const page = await asStranger(`/inputs/${INPUTS}`)
    expect(textOf(page)).toContain('2 kernels are said to be made from these inputs')
    expect(page).toContain(`href="/kernels/sha256:${KERNEL}"`)
    expect(page).toContain(`href="/kernels/${OTHER_KERNEL}"`)
    expect(page).toContain('Builders and kernels')
    expect(page).not.toContain('secret/key')
    expect(textOf(await asMember(`/inputs/${INPUTS}`))).toContain('admin')
  })

  it('says that nothing was made from them', async () => {
    const page = textOf(await asStranger(`/inputs/${'0'.repeat(64)}`))
    expect(page).toContain('Nothing that you may see was made from these inputs.')
  })
})
