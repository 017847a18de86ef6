import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { waitUntil } from '../support/wait-until.ts'
import { type Received, startReceiver } from './receiver.ts'
import { createWebhook } from './webhook-client.ts'
import { VERIFY } from './webhooks-page.ts'

const blockOf = (language: string) =>
  new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(VERIFY)?.[1] ?? ''

let registry: TestRegistry
let folder: string
let secret: string
let received: Received

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1' })
  folder = await mkdtemp(join(tmpdir(), 'rookery-verify-'))
  const receiver = await startReceiver()
  const repository = newRepository()
  const types = ['image.tag.updated']
  ;({ secret } = await createWebhook(registry, receiver.url, repository, { types }))
  await pushImage(registry, repository, 'live')
  await waitUntil(() => receiver.received.length > 0)
  const [first] = receiver.received
  if (first === undefined) throw new Error('nothing was received')
  received = first
  await receiver.close()
})

afterAll(async () => {
  await registry.close()
  await rm(folder, { recursive: true, force: true })
})

describe('the documented lines that verify a delivery', () => {
  it('print its signature in a shell, and another one for another body', async () => {
    const { headers, body } = received
    const env = {
      ...process.env,
      SECRET: secret,
      WEBHOOK_ID: String(headers['webhook-id']),
      WEBHOOK_TIMESTAMP: String(headers['webhook-timestamp']),
    }
    // The lines before these set the values of an example.
    const [lines = ''] = /^KEY=[\s\S]*/m.exec(blockOf('sh')) ?? []
    const sign = async (text: string) => {
      await writeFile(join(folder, 'body'), text)
      const words = ['-euo', 'pipefail', '-c', lines]
      return (await promisify(execFile)('bash', words, { cwd: folder, env })).stdout.trim()
    }
    expect(`v1,${await sign(body)}`).toBe(headers['webhook-signature'])
    expect(`v1,${await sign(body.replace('live', 'love'))}`).not.toBe(headers['webhook-signature'])
  })

  it('return the event in JavaScript, and throw for another body', async () => {
    const [imports = '', code = ''] = blockOf('js').split('\n\n')
    const run = async (body: string) => {
      const given = `const headers = ${JSON.stringify(received.headers)}, rawBody = ${JSON.stringify(body)}`
      const script = [imports, given, code, 'console.log(event.subject)'].join('\n')
      const env = { ...process.env, WEBHOOK_SECRET: secret }
      const words = ['--input-type=module', '--eval', script]
      return (await promisify(execFile)(process.execPath, words, { env })).stdout.trim()
    }
    expect(await run(received.body)).toBe(JSON.parse(received.body).subject)
    await expect(run(`${received.body} `)).rejects.toThrow('No matching signature found')
  })
})
