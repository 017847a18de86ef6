import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { MAIN } from '../cli/rookery.ts'
import { freePorts } from '../support/free-ports.ts'
import { registryAt } from '../support/process-registry.ts'
import { pushImage } from '../support/push.ts'
import type { TestRegistry } from '../support/registry.ts'
import { type ServerProcess, startProcess, stopProcess } from '../support/server-process.ts'
import { type DeliveryJson, listDeliveries, requestWebhooks } from '../webhooks/webhook-client.ts'
import { blocksOf, receiverRows } from '../webhooks/webhooks-page.ts'
import { clientPath, hasClient } from './client-sandbox.ts'

const SECTION = 'A command'
const runFile = promisify(execFile)

describe.runIf(hasClient('webhook'))('the program webhook, as documented,', () => {
  let folder: string
  let settings: Record<string, string>
  let server: ServerProcess
  let registry: TestRegistry
  let program: ChildProcess
  let port: number
  let secret: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-receivers-'))
    settings = {
      ROOKERY_DATA_DIR: join(folder, 'data'),
      ROOKERY_ADMIN_PASSWORD: 'from tag to command',
      ROOKERY_LOG_LEVEL: 'silent',
      ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
    }
    server = await startProcess({ ...settings, ROOKERY_LISTEN: '127.0.0.1:0' })
    registry = registryAt(server.url, folder, settings)
    const script = '#!/bin/sh\necho "$#:$*" >> "$(dirname "$0")/ran"\n'
    await writeFile(join(folder, 'deploy'), script, { mode: 0o755 })
    await writeFile(
      join(folder, 'rookery'),
      `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`,
      { mode: 0o755 },
    )
  })

  beforeEach(async () => {
    ;[port = 0] = await freePorts(1)
    await writeFile(join(folder, 'ran'), '')
    secret = String((JSON.parse(await paste(await creation())) as { secret: string }).secret)
    await writeHooks(secret)
    await start()
  })

  afterEach(async () => {
    await stop()
    expect((await requestWebhooks(registry, 'DELETE', '/command')).status).toBe(204)
  })

  afterAll(async () => {
    await stopProcess(server)
    await rm(folder, { recursive: true, force: true })
  })

  /** The documented lines: one that starts the program, and one that creates the webhook. */
  function documented(): { start: string; create: string } {
    const [start = '', create = ''] = blocksOf(SECTION, 'sh')
    return { start: start.trim(), create: create.trim() }
  }

  async function creation(): Promise<string> {
    const { create } = documented()
    expect(create).toMatch(/^rookery webhook create command /m)
    return `${create.replace('https://deploy.example.org', `http://127.0.0.1:${port}`)} --json`
  }

  async function paste(line: string): Promise<string> {
    const env = { ...process.env, ...settings, PATH: `${folder}:${process.env.PATH}` }
    return (await runFile('bash', ['-euc', line], { cwd: folder, env })).stdout
  }

  /** Writes the documented file, with the secret and the path of the command. */
  async function writeHooks(signing: string): Promise<void> {
    const [json = ''] = blocksOf(SECTION, 'json')
    const text = json
      .replace('whsec_…', signing)
      .replace('/usr/local/bin/deploy', join(folder, 'deploy'))
    expect(text).not.toBe(json)
    await writeFile(join(folder, 'hooks.json'), text)
  }

  async function start(): Promise<void> {
    const { start: line } = documented()
    expect(line).toMatch(/^webhook -hooks hooks\.json .*-port 9000$/)
    const words = line.replace('9000', String(port)).split(' ').slice(1)
    const more = ['-ip', '127.0.0.1', '-verbose']
    program = spawn(clientPath('webhook'), [...words, ...more], { cwd: folder, stdio: 'ignore' })
    const answers = () =>
      fetch(`http://127.0.0.1:${port}/`)
        .then(() => true)
        .catch(() => false)
    await expect.poll(answers, { timeout: 20_000 }).toBe(true)
  }

  async function stop(): Promise<void> {
    const ended = once(program, 'exit')
    program.kill('SIGKILL')
    await ended
  }

  const runs = () =>
    readFileSync(join(folder, 'ran'), 'utf8')
      .split('\n')
      .filter((line) => line !== '')

  /** Waits for the delivery of the newest event to a webhook to end, and returns all of them, newest first. */
  async function ended(name: string, count: number): Promise<DeliveryJson[]> {
    const states = async () => (await listDeliveries(registry, name)).map(({ state }) => state)
    await expect.poll(async () => (await states()).length, { timeout: 30_000 }).toBe(count)
    await expect.poll(states, { timeout: 30_000 }).not.toContain('pending')
    return listDeliveries(registry, name)
  }

  const remove = async (path: string) =>
    expect((await registry.request(path, { method: 'DELETE' })).ok, path).toBe(true)

  it('is the version that the page names', async () => {
    const [row] = receiverRows().filter(({ receiver }) => receiver === 'webhook')
    const { stdout } = await runFile(clientPath('webhook'), ['-version'])
    expect(stdout.trim()).toBe(`webhook version ${row?.version}`)
  })

  it('runs the command with the digest after a push, and nothing after a test', async () => {
    await paste('rookery webhook test command')
    const [ping] = await ended('command', 1)
    expect(ping).toMatchObject({ type: 'webhook.ping', status: 200 })
    expect(runs()).toEqual([])
    const { digest } = await pushImage(registry, 'builds/www', 'live')
    expect(await ended('command', 2)).toMatchObject([{ status: 200 }, { status: 200 }])
    await expect.poll(runs, { timeout: 20_000 }).toEqual([`1:${digest}`])
  })

  it('runs nothing for another type, tag or repository, even when the webhook sends every event', async () => {
    // A second webhook with the same secret and without a filter of the tag and the type.
    const all = await requestWebhooks(registry, 'POST', '', {
      name: 'all',
      url: `http://127.0.0.1:${port}/hooks/deploy`,
      repositories: ['**'],
      authentication: { secret, signatures: ['x-hub-signature-256'] },
    })
    expect(all.status).toBe(201)
    expect((await requestWebhooks(registry, 'PATCH', '/command', { paused: true })).status).toBe(
      200,
    )
    await requestWebhooks(registry, 'POST', '/all/test')
    await ended('all', 1)
    const { digest } = await pushImage(registry, 'builds/www', 'other')
    await pushImage(registry, 'builds/www-2', 'live')
    await ended('all', 5)
    await remove('/v2/builds/www/manifests/other')
    await remove(`/v2/builds/www/manifests/${digest}`)
    await remove('/api/v1/repositories/builds/www-2')
    await ended('all', 8)
    expect(runs()).toEqual([])
    const live = await pushImage(registry, 'builds/www', 'live')
    await expect.poll(runs, { timeout: 20_000 }).toEqual([`1:${live.digest}`])
    await remove('/v2/builds/www/manifests/live')
    const deliveries = await ended('all', 11)
    expect(deliveries.map(({ status }) => status)).toEqual(Array(11).fill(200))
    expect(runs()).toEqual([`1:${live.digest}`])
    expect((await requestWebhooks(registry, 'DELETE', '/all')).status).toBe(204)
  })

  it('refuses another secret with 500, and runs the command once it has the new one', async () => {
    const rotated = await requestWebhooks(registry, 'POST', '/command/rotate-secret')
    const { digest } = await pushImage(registry, 'builds/www', 'live')
    const status = async () => (await listDeliveries(registry, 'command'))[0]?.status
    await expect.poll(status, { timeout: 20_000 }).toBe(500)
    expect(runs()).toEqual([])
    await writeHooks(String(rotated.body.secret))
    const [delivery] = await ended('command', 1)
    expect(delivery).toMatchObject({ state: 'delivered', status: 200 })
    await expect.poll(runs, { timeout: 20_000 }).toEqual([`1:${digest}`])
  })

  it('runs nothing for a request without a signature, or with a changed body', async () => {
    const body = JSON.stringify({
      type: 'image.tag.updated',
      subject: 'builds/www:live',
      data: { digest: 'x' },
    })
    const signature = `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
    const send = async (text: string, headers: Record<string, string>) => {
      const url = `http://127.0.0.1:${port}/hooks/deploy`
      const type = { 'content-type': 'application/cloudevents+json' }
      return fetch(url, { method: 'POST', headers: { ...type, ...headers }, body: text })
    }
    await send(body, {})
    await send(body.replace('"x"', '"y"'), { 'x-hub-signature-256': signature })
    expect(runs()).toEqual([])
    // As the page says, the signature does not include the time: the same request is accepted again.
    for (const count of [1, 2]) {
      expect((await send(body, { 'x-hub-signature-256': signature })).status).toBe(200)
      await expect.poll(runs, { timeout: 20_000 }).toEqual(Array(count).fill('1:x'))
    }
  })
})
