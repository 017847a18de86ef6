import { type ChildProcess, spawn } from 'node:child_process'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { appendToOutbox } from '../events/outbox.ts'
import { freePorts } from '../support/free-ports.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { adminWebhookClient, createWebhookAs } from './webhook-client.ts'

const SCRIPT = fileURLToPath(new URL('../../docs/examples/github-deployments.mjs', import.meta.url))
const SECRET = `whsec_${Buffer.alloc(24, 7).toString('base64')}`

type Deployment = { id: number; environment: string; payload: object; states: string[] }

let registry: TestRegistry
let github: Server
let receiver: ChildProcess
let url: string
/** The deployments of the model of GitHub. */
const deployments: Deployment[] = []
const tokens = new Set<string | undefined>()

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.0/8' })
  await pushImage(registry, 'builds/hello', 'live')
  github = createServer(async (req, res) => {
    tokens.add(req.headers.authorization)
    const answer = (value: object) => res.end(JSON.stringify(value))
    const { pathname, searchParams } = new URL(req.url ?? '', 'http://github')
    const [, number] =
      /^\/repos\/octo\/www\/deployments(?:\/(\d+)\/statuses)?$/.exec(pathname) ?? []
    if (req.method === 'GET') {
      const environment = searchParams.get('environment')
      return answer(deployments.filter((one) => one.environment === environment))
    }
    let text = ''
    for await (const chunk of req) text += chunk
    const { environment, payload, state } = JSON.parse(text)
    if (number !== undefined) {
      deployments[Number(number) - 1]?.states.push(state)
      return answer({})
    }
    const made = { id: deployments.length + 1, environment, payload, states: [] }
    deployments.push(made)
    return answer(made)
  })
  await new Promise<void>((resolve) => github.listen(0, '127.0.0.1', resolve))
  const [port = 0] = await freePorts(1)
  receiver = spawn(process.execPath, [SCRIPT], {
    env: {
      ...{ ROOKERY_SECRET: SECRET, GITHUB_TOKEN: 'ghp_x', GITHUB_REPOSITORY: 'octo/www' },
      GITHUB_API_URL: `http://127.0.0.1:${(github.address() as AddressInfo).port}`,
      PORT: String(port),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await new Promise((resolve) => receiver.stdout?.once('data', resolve))
  url = `http://127.0.0.1:${port}/`
})
afterAll(async () => {
  receiver.kill()
  await registry.close()
  github.close()
})

it('the example shows a deployment of the registry on GitHub, once, with its states', async () => {
  const admin = adminWebhookClient(registry)
  const types = ['deployment.created', 'deployment.updated', 'deployment.finished']
  const authentication = { secret: SECRET, signatures: ['x-hub-signature-256'] }
  await createWebhookAs(admin, { url, types, authentication })
  const states = () => deployments.map((one) => one.states)
  await appendToOutbox(registry, 'builds/hello', ['deployment.created'])
  await expect.poll(states, { timeout: 10_000 }).toEqual([['in_progress']])
  await appendToOutbox(registry, 'builds/hello', ['deployment.finished'])
  await expect.poll(states, { timeout: 10_000 }).toEqual([['in_progress', 'failure']])
  expect(deployments[0]).toMatchObject({
    environment: 'builds/hello:live',
    payload: { rookery: expect.any(String) },
  })
  expect([...tokens]).toEqual(['Bearer ghp_x'])
})

it('the example refuses requests that the registry did not sign', async () => {
  for (const signature of ['', 'sha256=00', `sha256=${'0'.repeat(64)}`]) {
    const headers = { 'x-hub-signature-256': signature }
    const answer = await fetch(url, { method: 'POST', headers, body: '{}' })
    expect(answer.status).toBe(401)
  }
  expect(deployments).toHaveLength(1)
})
