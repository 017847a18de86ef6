import { Writable } from 'node:stream'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { createLog } from '../../src/server/log.ts'
import { startServer } from '../../src/server/server.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { createWebhook } from './webhook-client.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1' })
})

afterAll(() => registry.close())

it('a server logs at its start which webhooks its network guard blocks', async () => {
  const blocked = await createWebhook(registry, 'http://127.0.0.1:4/hook?key=secret', 'a/*')
  await createWebhook(registry, 'https://192.0.66.7/hook', 'a/*')
  await createWebhook(registry, 'https://name-that-is-nowhere.invalid/hook', 'a/*')
  const lines: string[] = []
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  const config = parseConfig({ ...registry.settings, ROOKERY_WEBHOOK_ALLOW_NETWORKS: '' })
  const server = await startServer(config, createLog('info', destination), (error) => {
    throw error
  })
  try {
    const warnings = () => lines.filter((line) => line.includes('a webhook cannot be reached'))
    await expect.poll(() => warnings().length, { timeout: 30_000 }).toBe(1)
    expect(JSON.parse(warnings()[0] ?? '')).toMatchObject({
      webhook: blocked.name,
      problem: expect.stringMatching(/^http:\/\/127\.0\.0\.1:4 .*ROOKERY_WEBHOOK_ALLOW_NETWORKS/),
    })
    expect(warnings()[0]).not.toContain('secret')
  } finally {
    await server.close()
  }
})
