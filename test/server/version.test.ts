import { afterAll, beforeAll, expect, it } from 'vitest'
import { VERSION } from '../../src/server/version.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

it('the version is in the health check, for anyone', async () => {
  const answer = await registry.anonymous('/healthz')
  expect(answer.status).toBe(200)
  expect(await answer.json()).toEqual({ status: 'ok', version: VERSION })
})

it('the version is a label of a metric', async () => {
  const metrics = await (await registry.request('/metrics')).text()
  expect(metrics.split('\n')).toContain(`rookery_build_info{version="${VERSION}"} 1`)
})

it('the version is in the log line of the start', () => {
  const lines = registry.log.map((line) => JSON.parse(line))
  expect(lines).toContainEqual(expect.objectContaining({ msg: 'listening', version: VERSION }))
})
