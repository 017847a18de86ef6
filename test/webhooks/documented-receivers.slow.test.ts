import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { MAIN } from '../cli/rookery.ts'
import { freePorts } from '../support/free-ports.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { giteaDispatch, githubDispatch, gitlab, woodpecker } from './pipeline-receivers.ts'
import { type Receiver, startReceiver } from './receiver.ts'
import {
  argoEvents,
  argoImageUpdater,
  fluxHmac,
  fluxOidc,
  fluxPath,
  keel,
  portainer,
  type ReceiverRule,
  startRuledReceiver,
} from './receiver-rules.ts'
import { createWebhook, listDeliveries, requestWebhooks } from './webhook-client.ts'
import { blocksOf, RECEIVERS, receiverRows } from './webhooks-page.ts'

const token = randomBytes(16).toString('hex')
const id = randomUUID()

type Documented = {
  /** The heading of its section, and of its row in the table. */
  readonly receiver: string
  /** The block of its section. */
  readonly block?: number
  /** The variable that the block sets to a secret. */
  readonly secret?: 'SECRET' | 'TOKEN'
  /** The last part of the URL, when the receiver chooses it. */
  readonly path?: string | ((files: (name: string) => Promise<string>) => Promise<string>)
  /** The rules, which may depend on files that the block writes. */
  rule(files: (name: string) => Promise<string>): ReceiverRule | Promise<ReceiverRule>
  /** The action of the receiver after the push of this digest. */
  action(digest: string): unknown
}

const DOCUMENTED: readonly Documented[] = [
  {
    receiver: 'Flux',
    path: 'abc',
    rule: () =>
      fluxOidc(registry.url, 'https://flux.example.org', ({ sub }) => String(sub) !== 'undefined'),
    action: () => 'reconciles',
  },
  {
    receiver: 'Flux',
    block: 1,
    path: async (files) => fluxPath(await files('token')).replace('/hook/', ''),
    rule: async (files) => fluxHmac(await files('token')),
    action: () => 'reconciles',
  },
  {
    receiver: 'Argo CD Image Updater',
    secret: 'SECRET',
    rule: () => argoImageUpdater(token),
    action: (digest) => ({ registry: host(), repository: 'builds/www', tag: 'live', digest }),
  },
  {
    receiver: 'Argo Events',
    secret: 'TOKEN',
    rule: () => argoEvents(token, sensorFilters()),
    action: (digest) =>
      expect.objectContaining({
        type: 'image.tag.updated',
        data: expect.objectContaining({ tag: 'live', digest }),
      }),
  },
  {
    receiver: 'Keel',
    rule: () => keel,
    action: (digest) => [{ image: `${host()}/builds/www`, tag: 'live', digest }],
  },
  {
    receiver: 'Portainer',
    path: id,
    rule: () => portainer(id),
    action: () => 'redeploys',
  },
  {
    receiver: 'GitHub',
    secret: 'TOKEN',
    rule: () => githubDispatch(token),
    action: (digest) => ({
      event_type: 'image',
      image: `${host()}/builds/www`,
      tag: 'live',
      digest,
    }),
  },
  {
    receiver: 'Gitea and Forgejo',
    secret: 'TOKEN',
    rule: () => giteaDispatch(token),
    action: (digest) => ({ ref: 'main', tag: 'live', digest }),
  },
  {
    receiver: 'Woodpecker',
    secret: 'TOKEN',
    rule: () => woodpecker(token),
    action: (digest) => ({ branch: 'main', TAG: 'live', DIGEST: digest }),
  },
  {
    receiver: 'GitLab',
    secret: 'TOKEN',
    rule: () => gitlab(token),
    action: (digest) => ({ ref: 'main', TAG: 'live', DIGEST: digest }),
  },
]

let registry: TestRegistry
let folder: string
let witness: Receiver
const receivers: Receiver[] = []
const host = () => new URL(registry.url).host

/** The filters of the documented sensor: values by path. */
function sensorFilters(): Record<string, string[]> {
  const [text = ''] = blocksOf('Argo Events', 'yaml')
  const [{ filters }] = parse(text).dependencies as [
    { filters: { data: { path: string; value: string[] }[] } },
  ]
  return Object.fromEntries(filters.data.map(({ path, value }) => [path, value]))
}

beforeAll(async () => {
  const listen = `127.0.0.1:${(await freePorts(1))[0]}`
  registry = await startRegistry({
    ROOKERY_LISTEN: listen,
    ROOKERY_PUBLIC_URL: `http://${listen}`,
    ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
  })
  folder = await mkdtemp(join(tmpdir(), 'rookery-receivers-'))
  const programs = { rookery: `exec '${process.execPath}' '${MAIN}' "$@"`, kubectl: 'exit 0' }
  for (const [name, line] of Object.entries(programs)) {
    await writeFile(join(folder, name), `#!/bin/sh\n${line}\n`, { mode: 0o755 })
  }
  witness = await startReceiver()
  await createWebhook(registry, witness.url, '**')
})

afterEach(async () => {
  await Promise.all(receivers.splice(0).map((receiver) => receiver.close()))
})

afterAll(async () => {
  await registry.close()
  await witness.close()
  await rm(folder, { recursive: true, force: true })
})

/** Pastes a block into a shell, in a folder with these files. */
async function paste(block: string, cwd: string): Promise<void> {
  const env = { ...process.env, ...registry.settings, PATH: `${folder}:${process.env.PATH}` }
  await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', block], { cwd, env })
}

/** Waits until the witness has an event of this type about a repository. */
async function waitForEvent(type: string, repository: string): Promise<void> {
  const has = () =>
    witness.received.some(({ body }) => {
      const event = JSON.parse(body)
      return event.type === type && event.data.repository === repository
    })
  await expect.poll(has, { timeout: 20_000 }).toBe(true)
}

const removed = async (path: string) =>
  expect((await registry.request(path, { method: 'DELETE' })).ok, path).toBe(true)

describe.each(DOCUMENTED)('the documented webhook of $receiver', (documented) => {
  it('makes it act on a push of one tag, and on nothing else', async () => {
    const cwd = await mkdtemp(join(folder, 'pasted-'))
    const { path = '', secret } = documented
    const written = async (name: string) => readFile(join(cwd, name), 'utf8')
    const block = blocksOf(documented.receiver, 'sh')[documented.block ?? 0] ?? ''
    const [create = ''] = /^URL=[\s\S]*/m.exec(block) ?? []
    const before = block.replace(create, '')
    if (before !== '') await paste(before, cwd)
    const receiver = await startRuledReceiver(await documented.rule(written))
    receivers.push(receiver)
    const part = typeof path === 'string' ? path : await path(written)
    const [assignment, documentedUrl = ''] = /^URL='?([^'\s]+)'?$/m.exec(create) ?? []
    const { pathname, search } = new URL(documentedUrl)
    const place = `${part === '' ? pathname : pathname.replace(/[^/]*$/, part)}${search}`
    const pasted = create
      .replace(assignment ?? '', `URL='${receiver.url}${place}'`)
      .replace(new RegExp(`^${secret}=.*$`, 'm'), `${secret}=${token}`)
    await paste(pasted, cwd)
    const [, name = ''] = /webhook create (\S+)/.exec(create) ?? []

    const tested = await requestWebhooks(registry, 'POST', `/${name}/test`)
    expect([202, 409]).toContain(tested.status)
    witness.received.length = 0
    const image = await pushImage(registry, 'builds/www', 'live')
    await pushImage(registry, 'builds/www', 'other')
    await pushImage(registry, 'builds/other', 'live')
    await removed('/v2/builds/www/manifests/live')
    await removed(`/v2/builds/www/manifests/${image.digest}`)
    await removed('/api/v1/repositories/builds/other')
    await waitForEvent('image.deleted', 'builds/www')
    const states = async () => (await listDeliveries(registry, name)).map(({ state }) => state)
    await expect.poll(states, { timeout: 20_000 }).not.toContain('pending')

    expect(receiver.done).toEqual([documented.action(image.digest)])
    const deliveries = await listDeliveries(registry, name)
    expect(deliveries[0]).toMatchObject({ state: 'delivered', attempts: 1 })
    const types = deliveries.map(({ type }) => type)
    const ping = tested.status === 202 ? ['webhook.ping'] : []
    expect(types).toEqual(['image.tag.updated', ...ping])
    expect((await requestWebhooks(registry, 'DELETE', `/${name}`)).status).toBe(204)
  })
})

it('has a section in the page for each documented receiver, and a row in its table', () => {
  const rows = receiverRows().filter(({ tested }) => tested === 'its documented rules')
  const documented = new Set(DOCUMENTED.map(({ receiver }) => receiver))
  expect(new Set(rows.map(({ receiver }) => receiver))).toEqual(documented)
  for (const { receiver } of DOCUMENTED) expect(blocksOf(receiver, 'sh')).not.toEqual([])
})

it('pastes each command of the page that creates a webhook for a receiver', () => {
  const commands = RECEIVERS.match(/\brookery webhook create [\w-]+ "\$URL"/g) ?? []
  // The one for the program webhook is pasted with that program.
  expect(commands).toHaveLength(DOCUMENTED.length + 1)
})
