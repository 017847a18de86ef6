import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formOf, postImage, pushBuild } from '../images/image-fixtures.ts'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { call, listAll } from './described-request.ts'
import { seen } from './expect-answer.ts'
import { OPERATIONS, partsOf } from './openapi-document.ts'
import { failureForm } from './wrong-requests.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

describe('builds are as described', () => {
  it('when they are listed and read, with their consoles and scripts', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'v1')
    const path = `/api/v1/repositories/${repository}/builds`
    const { body } = await call(registry.request, 'POST', path, failureForm())
    expect(await listAll(registry.anonymous, `${path}?n=1`, 'builds')).toHaveLength(2)
    const build = `${path}/${body.build}`
    expect((await call(registry.anonymous, 'GET', build)).body.result).toBe('failed')
    await expectTexts(build)
  })

  it('when the texts of an image are read', async () => {
    const repository = newRepository()
    const texts = { console: Buffer.from('built\n'), script: Buffer.from('make\n') }
    const answer = await postImage(registry, repository, '?tag=v1', formOf('hello-key-1', texts))
    expect(answer.status).toBe(201)
    await expectTexts(`/api/v1/repositories/${repository}/images/v1`)
  })
})

async function expectTexts(path: string): Promise<void> {
  for (const file of ['console', 'script', 'readme']) {
    const read = (headers = {}) =>
      call(registry.anonymous, 'GET', `${path}/${file}`, undefined, headers)
    const whole = await read()
    const range = await read({ range: 'bytes=0-2' })
    const unchanged = await read({ 'if-none-match': whole.headers.get('etag') ?? '' })
    expect([whole.status, range.status, unchanged.status]).toEqual([200, 206, 304])
  }
}

it('the tests saw every described success of builds', () => {
  const described = OPERATIONS.filter(({ path }) =>
    /\/builds(?:\/|$)|\/images\/.*\/(?:console|script|readme)$/.test(path),
  ).flatMap(({ method, path, place }) =>
    partsOf(place, 'responses')
      .filter(([status]) => /^[23]/.test(status))
      .map(([status]) => `${method} ${path} ${status}`),
  )
  expect(described.length).toBeGreaterThan(5)
  expect(described.filter((one) => !seen.has(one))).toEqual([])
})
