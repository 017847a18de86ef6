import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { withoutActor } from '../../src/events/cloud-event.ts'
import { renderDockerEnvelope } from '../../src/events/docker-envelope.ts'
import type { Glob } from '../../src/oci/glob.ts'
import type { Repository } from '../../src/oci/reference.ts'
import { eventBodyFor } from '../../src/webhooks/event-access.ts'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { addDeployment } from '../deployments/deployment-rows.ts'
import { openStream, waitForBlocks } from '../feed/event-stream-client.ts'
import { expectedOf, formOf, newestBuild } from '../images/image-fixtures.ts'
import { eventually } from '../support/eventually.ts'
import { enrolHost } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { answeredUrl, ROUTES, type Samples } from './route-paths.ts'

const REPOSITORY = 'mine/www'
const NAME = 'orb-of-a-secret-project'
const { input_id: INPUTS } = expectedOf('hello-key-2')

let registry: TestRegistry
let samples: Samples
/** A cursor before all events. */
let start: string
/** Headers of a credential that may pull the repository, of one for other repositories, and of nobody. */
let member: Record<string, string>
const strangers: Record<string, string>[] = [{}]

beforeAll(async () => {
  registry = await startRegistry()
  start = (await json<{ cursor: string }>('/api/v1/events?n=0')).cursor
  const pusher = await post('/api/v1/credentials', {
    name: NAME,
    repositories: ['mine/**'],
    actions: ['push'],
  })
  const { secret } = (await pusher.json()) as { secret: string }
  const headersOf = async (repository: string) => {
    const made = await makeCredential(registry, { repositories: [repository], actions: ['pull'] })
    return { authorization: basic(made.name, made.secret) }
  }
  member = await headersOf('mine/**')
  strangers.push(await headersOf('other/**'))
  const webhook = {
    name: 'deploy',
    url: 'https://receiver.example/hook',
    repositories: ['mine/**'],
    paused: true,
  }
  await post('/api/v1/webhooks', webhook)
  const pushed = await registry.anonymous(`/api/v1/repositories/${REPOSITORY}/images?tag=v1`, {
    method: 'POST',
    headers: { authorization: basic(NAME, secret) },
    body: formOf('hello-key-2'),
  })
  const { digest } = (await pushed.json()) as { digest: string }
  const image = `/api/v1/repositories/${REPOSITORY}/images/v1`
  const { kernel } = await json<{ kernel: { digest: string } }>(image)
  const event = await eventually(async () => {
    const page = await json<{ events: { id: string }[] }>(`/api/v1/events?after=${start}`)
    expect(page.events).toHaveLength(2)
    return page.events[0]?.id ?? ''
  })
  samples = {
    repository: REPOSITORY,
    tag: 'v1',
    manifest: digest,
    kernel: kernel.digest,
    inputId: INPUTS,
    package: 'bigstringaf',
    webhook: 'deploy',
    event,
    build: await newestBuild(registry, REPOSITORY),
    deployment: await addDeployment(registry, REPOSITORY),
    host: (await enrolHost(registry, { repositories: ['mine/**'] })).name,
  }
})
afterAll(() => registry.close())

async function post(path: string, body: object): Promise<Response> {
  const headers = { 'content-type': 'application/json' }
  const init = { method: 'POST', headers, body: JSON.stringify(body) }
  const answer = await registry.request(path, init)
  expect(answer.status).toBe(201)
  return answer
}

async function json<T>(path: string): Promise<T> {
  return (await registry.request(path)).json() as Promise<T>
}

/** Returns the whole answer: its status, headers and body. */
async function answerOf(path: string, headers: Record<string, string>): Promise<string> {
  const answer = await registry.anonymous(path, { headers })
  return JSON.stringify([answer.status, [...answer.headers], await answer.text()])
}

/** Every route that reads, with a path that has an answer. */
function readPaths(): string[] {
  const reading = ROUTES.filter(({ method }) => method === 'GET')
  const paths = reading.map(({ path }) => answeredUrl(path, samples))
  return [...paths, `/api/v1/events?after=${start}`, `/v2/${REPOSITORY}/tags/list?n=1`]
}

describe('the name of a credential', () => {
  it('is in no answer to a stranger', async () => {
    for (const path of readPaths()) {
      for (const headers of strangers) {
        expect([path, await answerOf(path, headers)]).not.toEqual([
          path,
          expect.stringContaining(NAME),
        ])
      }
    }
  })

  it('is in answers to those who have a right to the repository', async () => {
    const shown: string[] = []
    for (const path of readPaths()) {
      if ((await answerOf(path, member)).includes(NAME)) shown.push(path)
    }
    expect(shown.sort()).toEqual(
      [
        '/',
        `/r/${REPOSITORY}`,
        `/r/${REPOSITORY}/-/tags/v1`,
        `/kernels/${samples.kernel}`,
        `/inputs/${INPUTS}`,
        `/r/${REPOSITORY}/-/images`,
        `/r/${REPOSITORY}/-/builds`,
        `/r/${REPOSITORY}/-/builds/${samples.build}`,
        `/r/${REPOSITORY}/-/images/v1`,
        `/api/v1/events?after=${start}`,
        '/api/v1/images',
        `/api/v1/inputs/${INPUTS}`,
        `/api/v1/kernels/${samples.kernel}`,
        `/api/v1/repositories/${REPOSITORY}/builds`,
        `/api/v1/repositories/${REPOSITORY}/builds/${samples.build}`,
        `/api/v1/repositories/${REPOSITORY}/images`,
        `/api/v1/repositories/${REPOSITORY}/images/v1`,
        `/api/v1/repositories/${REPOSITORY}/images/v1/documents/slsa`,
        `/api/v1/repositories/${REPOSITORY}/tags/v1/history`,
      ].sort(),
    )
  })

  it('is in no stream to a stranger', async () => {
    const query = `?after=${start}`
    const open = await Promise.all(
      [member, ...strangers].map((headers) => openStream(registry.url, query, headers)),
    )
    await Promise.all(open.map((stream) => waitForBlocks(stream, 2)))
    const [own, ...others] = open.map(({ blocks }) => JSON.stringify(blocks))
    for (const stream of open) stream.close()
    expect(own).toContain(NAME)
    for (const text of others) expect(text).not.toContain(NAME)
  })

  it('is no filter for a stranger', async () => {
    const path = `/api/v1/repositories/${REPOSITORY}/images?builder=${NAME}`
    for (const name of [NAME, 'nobody']) {
      const filtered = path.replace(NAME, name)
      expect((await registry.anonymous(filtered)).status).toBe(401)
      const outsider = strangers[1] ?? {}
      expect((await registry.anonymous(filtered, { headers: outsider })).status).toBe(403)
    }
    const own = await registry.anonymous(path, { headers: member })
    expect(((await own.json()) as { images: object[] }).images).toHaveLength(1)
  })
})

describe('a webhook', () => {
  const body = JSON.stringify({
    id: 'e',
    source: 'https://registry.example',
    type: 'image.deleted',
    time: '2030-01-01T00:00:00Z',
    data: {
      registry: 'r',
      repository: 'mine/www',
      actor: 'a "quoted\\" name,"actor":"x',
      tag: null,
    },
  })
  const event = { type: 'image.pushed', repository: 'mine/www' as Repository, body } as const
  const grants = (repository: string) => [
    { repositories: [repository as Glob], actions: ['pull' as const], tags: null },
  ]

  it('whose owner has no right to the repository gets no name', () => {
    expect(eventBodyFor({ grants: null }, event)).toBe(body)
    expect(eventBodyFor({ grants: grants('mine/**') }, event)).toBe(body)
    const shown = eventBodyFor({ grants: grants('other/**') }, event)
    expect(JSON.parse(shown).data).toEqual({ registry: 'r', repository: 'mine/www', tag: null })
    expect(JSON.parse(renderDockerEnvelope(shown)).events[0].actor).toEqual({})
  })

  it('gets the text of an annotation unchanged', () => {
    const text = JSON.stringify({ title: ',"actor":"x"', data: { tag: 'v1', actor: 'y' } })
    expect(JSON.parse(withoutActor(text))).toEqual({
      title: ',"actor":"x"',
      data: { tag: 'v1' },
    })
  })
})
