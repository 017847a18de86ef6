import { expect, vi } from 'vitest'
import { KERNEL, OTHER_KERNEL, report } from '../deployments/reporting.ts'
import { formOf, newestBuild, postImage, pushBuild } from '../images/image-fixtures.ts'
import {
  enrolHost,
  issuerOf,
  keyFields,
  makeHostKey,
  postForm,
  type TestHost,
} from '../support/hosts.ts'
import type { TestRegistry } from '../support/registry.ts'
import { elfWithSymbols } from '../unikernel/sizes/elf-with-symbols.ts'
import { type Receiver, startReceiver } from '../webhooks/receiver.ts'
import { listDeliveries, requestWebhooks } from '../webhooks/webhook-client.ts'

/** The content that `seedPages` puts into a registry. */
export type PageSamples = {
  readonly repository: string
  /** A name that is as long as most that people give. */
  readonly longRepository: string
  /** A repository that strangers do not see. */
  readonly hidden: string
  readonly tag: string
  /** Digests of manifests: the first image of the tag, and the present one. */
  readonly first: string
  readonly present: string
  /** An image whose debug twin has symbols. */
  readonly withTwin: string
  readonly kernel: string
  /** The id of a build that diverged. */
  readonly build: string
  /** The id of the newest deployment of the tag. */
  readonly deployment: string
  readonly hosts: readonly TestHost[]
  /** A webhook whose receiver fails, and the id of an event that it did not get. */
  readonly webhook: string
  readonly delivery: string
  readonly receiver: Receiver
}

/** The settings of a registry for `seedPages`: the receiver is on this machine, and a host waits for its approval. */
export const SAMPLE_SETTINGS = {
  ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
  ROOKERY_HOST_ENROLMENT: 'approve',
}

/** Fills a registry with everything that pages show: images, tags that moved, hosts, and deployments that went well and badly. */
export async function seedPages(registry: TestRegistry): Promise<PageSamples> {
  const [repository, hidden] = ['hello/key', 'secret/key']
  const longRepository = `teams/infrastructure-and-operations/${'a-unikernel-with-a-long-name-'.repeat(4)}1`
  const first = await pushBuild(registry, repository, '1.0', 'hello-key-1')
  await pushBuild(registry, repository, 'live', 'hello-key-1')
  await pushBuild(registry, longRepository, 'main', 'hello-key-2')
  await pushBuild(registry, hidden, 'live', 'hello-key-1')
  await setVisibility(registry, hidden, 'private')
  const twin = formOf('hello-key-2', { debug: twinWithSymbols() })
  const { digest: withTwin } = await (
    await postImage(registry, repository, '?tag=2.0', twin)
  ).json()
  const hosts = [
    await enrolHost(registry, { name: 'web-1', labels: { site: 'nantes' } }),
    await enrolHost(registry, { name: 'web-2', labels: { site: 'berlin' } }),
  ]
  const follows = { repository, tag: 'live' }
  for (const host of hosts) {
    await report(host, { follows, kernel: KERNEL, state: 'healthy' })
  }
  await seedCredentials(registry)
  const receiver = await seedWebhooks(registry, repository)
  const present = await pushBuild(
    registry,
    repository,
    'live',
    'hello-key-4-same-input-different-output',
  )
  const deployment = await newestDeployment(registry, repository)
  const [well, badly] = hosts
  if (well === undefined || badly === undefined) throw new Error('two hosts enrolled')
  await report(well, { follows, kernel: OTHER_KERNEL, state: 'healthy', deployment })
  await report(badly, {
    ...{ follows, kernel: KERNEL, state: 'rolled-back', deployment, exit: { code: 2 } },
    ...{ reason: 'exit', message: 'the unikernel ended 0.3 s after its start' },
    log: { text: 'Solo5: Bindings version v0.9.0\nFatal error: exception Not_found\n' },
  })
  await seedOtherHosts(registry, repository)
  return {
    ...{ repository, longRepository, hidden, tag: 'live', first, present, withTwin },
    ...{ kernel: OTHER_KERNEL, deployment, hosts, receiver },
    webhook: FAILING,
    delivery: await failedDelivery(registry, FAILING),
    build: await newestBuild(registry, repository),
  }
}

/** Adds hosts that are offline, that wait for an approval, and that have many units with long names. */
async function seedOtherHosts(registry: TestRegistry, repository: string) {
  const follows = { repository, tag: '1.0' }
  const labels = { site: 'a-data-centre-with-a-long-name', rack: 'r7', tier: 'edge' }
  const many = await enrolHost(registry, { name: 'many-units-on-one-host.example.org', labels })
  for (const unit of [
    'dns',
    'mail',
    'ntp',
    'a-unit-with-a-name-that-is-rather-long',
    'vpn',
    'www',
  ]) {
    await report(many, { follows, kernel: KERNEL, state: 'healthy' }, unit)
  }
  await enrolHost(registry, { name: 'never-called', labels })
  const key = makeHostKey()
  const fields = keyFields(key, await issuerOf(registry), { name: 'waits' })
  const answer = await postForm(registry, '/api/v1/hosts/enrol', fields)
  expect(answer.status).toBe(202)
}

async function setVisibility(registry: TestRegistry, repository: string, visibility: string) {
  const answer = await registry.request(`/api/v1/repositories/${repository}/settings`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ visibility }),
  })
  expect(answer.status).toBe(200)
}

const GRANTED = { timeout: 10_000, interval: 20 }

async function newestDeployment(registry: TestRegistry, repository: string): Promise<string> {
  const path = `/api/v1/repositories/${repository}/deployments?n=1`
  const granted = async () => {
    const { deployments } = (await (await registry.request(path)).json()) as {
      deployments: { id: string; counts: { inFlight: number } }[]
    }
    return deployments[0]
  }
  return vi.waitFor(async () => {
    const newest = await granted()
    expect(newest?.counts.inFlight).toBe(2)
    return newest?.id ?? ''
  }, GRANTED)
}

const DAY_MILLISECONDS = 86_400_000

/** Makes credentials of each kind: with bounds, one that expires soon, and one that is revoked. */
async function seedCredentials(registry: TestRegistry): Promise<void> {
  const inDays = (days: number) => new Date(Date.now() + days * DAY_MILLISECONDS).toISOString()
  const rights = { repositories: ['web/**'], actions: ['pull', 'push'] }
  const credentials = [
    { name: 'orb-of-the-build-farm', ...rights, tags: ['v*', 'live'], networks: ['10.0.0.0/8'] },
    { name: 'contractor', ...rights, expiresAt: inDays(3) },
    { name: 'release', ...rights, expiresAt: inDays(300) },
    { name: 'prometheus', kind: 'metrics' },
    { name: 'former', ...rights },
  ]
  for (const credential of credentials) {
    const answer = await registry.request('/api/v1/credentials', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(credential),
    })
    expect(answer.status).toBe(201)
  }
  const revoked = await registry.request('/api/v1/credentials/former', { method: 'DELETE' })
  expect(revoked.status).toBe(204)
}

const FAILING = 'room-of-the-operators'

/** Makes a webhook that delivers, one that fails and one that is paused. */
async function seedWebhooks(registry: TestRegistry, repository: string): Promise<Receiver> {
  const receiver = await startReceiver(({ path }, res) => {
    if (path === '/deploy') res.writeHead(204).end()
    else res.writeHead(503).end('the room is closed for maintenance\n')
  })
  const webhooks = [
    { name: 'deploy', url: `${receiver.url}/deploy` },
    {
      name: FAILING,
      url: `${receiver.url}/room`,
      description: 'Tells the operators what changed.',
    },
    { name: 'mirror', url: 'https://mirror.example/hooks/rookery', paused: true },
  ]
  for (const webhook of webhooks) {
    const body = { ...webhook, repositories: [repository, 'web/**'] }
    expect((await requestWebhooks(registry, 'POST', '', body)).status).toBe(201)
  }
  return receiver
}

/** Returns the id of an event that the webhook's receiver refused. */
function failedDelivery(registry: TestRegistry, webhook: string): Promise<string> {
  return vi.waitFor(async () => {
    const failed = (await listDeliveries(registry, webhook)).find(({ status }) => status === 503)
    expect(failed).toBeDefined()
    return failed?.event ?? ''
  }, GRANTED)
}

/** A debug twin with the symbols of some libraries. */
function twinWithSymbols(): Buffer {
  const libraries = ['Stdlib', 'Lwt', 'Dns', 'Tcpip', 'Mirage_crypto', 'X509', 'Tls', 'Cstruct']
  const units = libraries.flatMap((library, index) =>
    Array.from({ length: 4 + 3 * index }, (_, module) => `caml${library}__Module${module}`),
  )
  const names = [
    ...units,
    'caml_major_collection_slice',
    'caml_alloc_small',
    'solo5_net_read',
    'memcpy',
  ]
  const symbols = names.map((name, index) => ({
    ...{
      name: name.startsWith('caml_') || !name.startsWith('caml') ? name : `${name}__code_begin`,
    },
    at: 200 * index * (index + 1),
  }))
  return elfWithSymbols([
    { name: '.text', size: 200 * names.length * (names.length + 1), symbols },
    { name: '.rodata', size: 90_000 },
    { name: '.eh_frame', size: 60_000 },
  ])
}
