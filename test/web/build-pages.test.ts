import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formOf, newestBuild, postImage, pushBuild } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let build: string
const REPOSITORY = 'hello/key'
const BUILDS = `/r/${REPOSITORY}/-/builds`

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

const text = async (path: string) => {
  const answer = await registry.anonymous(path)
  expect([path, answer.status]).toEqual([path, 200])
  return answer.text()
}

describe('the pages of builds', () => {
  it('explain an empty list', async () => {
    await pushBuild(registry, REPOSITORY, 'old', 'hello-key-1')
    await registry.request(`/v2/${REPOSITORY}/manifests/old`, { method: 'DELETE' })
    expect(await text(BUILDS)).toContain('Builds of hello/key')
    expect((await registry.anonymous('/r/no/such/-/builds')).status).toBe(404)
  })

  it('show the outcome, and the last lines of the console as text', async () => {
    const lines = Array.from({ length: 60 }, (_, index) => `line ${index} <b>`).join('\n')
    const console = Buffer.from(`${lines}\n\x1b[31mred\x1b[0m\n`)
    const answer = await postImage(
      registry,
      REPOSITORY,
      '?tag=live',
      formOf('hello-key-2', { console }),
    )
    expect(answer.status).toBe(201)
    build = await newestBuild(registry, REPOSITORY)
    const page = await text(`${BUILDS}/${build}`)
    expect(page).toContain('line 59 &lt;b>\nred</code>')
    expect(page).not.toContain('line 20 ')
    expect(page).toContain('built once')
    expect(page).toContain(`href="/api/v1/repositories/${REPOSITORY}/builds/${build}/console"`)
    expect(page).toContain('debian-12')
    expect(page.length).toBeLessThan(20_000)
  })

  it('say who got the same, and who did not', async () => {
    await pushBuild(registry, REPOSITORY, 'first', 'hello-key-1')
    await pushBuild(registry, REPOSITORY, 'other', 'hello-key-4-same-input-different-output')
    const diverged = await newestBuild(registry, REPOSITORY)
    const page = await text(`${BUILDS}/${diverged}`)
    expect(page).toContain('diverged')
    expect(page).toContain('of the same inputs made another kernel.')
    const list = await text(BUILDS)
    expect(list).toContain('Who got the same from the same inputs')
    expect(list).toContain('another')
    expect(list).toContain('<svg viewBox="0 0 320 64" role="img"')
    expect(list).toContain(`href="${BUILDS}/${build}"`)
    expect(list.length).toBeLessThan(20_000)
  })

  it('draw how long builds took, oldest first', async () => {
    const minutes = [4, 1, 2]
    for (const [index, one] of minutes.entries()) {
      const form = new FormData()
      form.append('console', new Blob([`build ${index}\n`]), 'console')
      form.append('started', '2026-11-29T10:00:00Z')
      form.append('finished', `2026-11-29T10:0${one}:00Z`)
      const path = '/api/v1/repositories/timed/key/builds'
      expect((await registry.request(path, { method: 'POST', body: form })).status).toBe(201)
    }
    const page = await (await registry.request('/r/timed/key/-/builds')).text()
    const [, chart = ''] = /Durations, oldest first<.*?<svg[^>]*>(.*?)<\/svg>/s.exec(page) ?? []
    const heights = [...chart.matchAll(/ height="([\d.]+)"/g)].map(([, height]) => Number(height))
    expect(heights).toEqual([64, 16, 32])
    expect(chart).toMatch(/<title>[^<]+: 4 min[^<]*, failed<\/title>/)
  })

  it('name builders only to members', async () => {
    for (const path of [BUILDS, `${BUILDS}/${build}`]) {
      expect(await text(path)).not.toContain('admin')
      expect(await (await registry.request(path)).text()).toContain('admin')
    }
  })

  it('are 404 for a build of another repository', async () => {
    await pushBuild(registry, 'other/key', 'live', 'hello-key-1')
    expect((await registry.anonymous(`/r/other/key/-/builds/${build}`)).status).toBe(404)
    expect((await registry.anonymous(`${BUILDS}/word`)).status).toBe(400)
  })
})
