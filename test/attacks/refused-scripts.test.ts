import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sendReport } from '../deployments/reporting.ts'
import { formOf, postImage } from '../images/image-fixtures.ts'
import { enrolHost } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { shortScript } from './stored-scripts.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

const script = shortScript('refused')
const path = encodeURIComponent(script)

function send(method: string, url: string, body: object = {}): Promise<Response> {
  const headers = { 'content-type': 'application/json' }
  return registry.request(url, { method, headers, body: JSON.stringify(body) })
}

const post = (name: string, body: object) => send('POST', `/api/v1/${name}`, body)
const credential = (more: object) =>
  post('credentials', { name: 'a', repositories: ['a/b'], actions: ['pull'], ...more })
const webhook = (more: object) =>
  post('webhooks', { name: 'a', url: 'https://receiver.example/', repositories: ['a/b'], ...more })
const enrolment = (more: object) =>
  post('enrolments', { name: 'a', repositories: ['a/b'], ...more })
const rollout = (name: string, more: object) =>
  send('PUT', `/api/v1/rollouts/${name}`, { repositories: ['a/b'], ...more })

function image(field: string): Promise<Response> {
  const form = formOf('hello-key-1')
  form.append(field, script)
  return postImage(registry, 'a/b', '', form)
}

async function reported(fields: object, unit = 'www'): Promise<Response> {
  return sendReport(await enrolHost(registry), { ...fields }, unit)
}

const FIELDS: Readonly<Record<string, () => Promise<Response>>> = {
  'the name of a repository': () => send('POST', `/v2/${path}/blobs/uploads/`),
  'the name of a tag': () => send('PUT', `/v2/a/b/manifests/${path}`),
  'the platform of a build': () => image('platform'),
  'the time of an image': () => image('created'),
  'the target of an image': () => image('target'),
  'the name of a credential': () => credential({ name: script }),
  'a tag of a credential': () => credential({ tags: [script] }),
  'a network of a credential': () => credential({ networks: [script] }),
  'the name of a webhook': () => webhook({ name: script }),
  'the scheme of a webhook': () => webhook({ url: 'javascript:ran()' }),
  'a repository of a webhook': () => webhook({ repositories: [script] }),
  'a tag of a webhook': () => webhook({ tags: [script] }),
  'the name of a host': () => enrolment({ name: script }),
  'a label of a host': () => enrolment({ labels: { a: script } }),
  'the name of a label': () => enrolment({ labels: { [script]: 'a' } }),
  'a network of a host': () => enrolment({ networks: [script] }),
  'the name of a rollout': () => rollout(path, {}),
  'the order of a rollout': () => rollout('a', { order: script }),
  'the name of a policy': () => post('policies', { name: script }),
  'the name of a unit': () => reported({}, path),
  'the reason of a report': () => reported({ reason: script }),
  'the state of a unit': () => reported({ state: script }),
  'the boot of a host': () => reported({ bootId: script }),
  'the architecture of a tender': () =>
    reported({ tenders: [{ target: 'hvt', architecture: script }] }),
}

describe('a script as a word with a grammar is refused', () => {
  it.each(Object.keys(FIELDS))('%s', async (field) => {
    const answer = await FIELDS[field]?.()
    expect(answer?.status).toBe(400)
  })
})
