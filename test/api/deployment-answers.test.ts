import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  addDeployment,
  addTarget,
  changeTarget,
  endDeployment,
} from '../deployments/deployment-rows.ts'
import { followTag, rowsOf } from '../deployments/rows.ts'
import { formOf } from '../images/image-fixtures.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { call, listAll } from './described-request.ts'
import { seen } from './expect-answer.ts'
import { OPERATIONS, partsOf } from './openapi-document.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

it('deployments are as described when they are listed, read and followed', async () => {
  const repository = newRepository()
  await pushImage(registry, repository, 'live')
  const first = await addDeployment(registry, repository)
  await addDeployment(registry, repository)
  const list = `/api/v1/repositories/${repository}/deployments?n=1`
  expect(await listAll(registry.request, list, 'deployments')).toHaveLength(2)
  const all = '/api/v1/deployments?n=1&state=rolling'
  expect(await listAll(registry.request, all, 'deployments')).toHaveLength(2)
  await addTarget(registry, first, 'answers-1', 'starting')
  await addTarget(registry, first, 'answers-2', 'waiting')
  await changeTarget(registry, first, 'answers-1', 'failed', { exitCode: 2, log: 'Fatal error' })
  const path = `/api/v1/deployments/${first}`
  const shown = await call(registry.request, 'GET', path)
  expect(shown.body.targets).toHaveLength(2)
  const cached = { 'if-none-match': shown.headers.get('etag') ?? '' }
  expect((await call(registry.request, 'GET', path, undefined, cached)).status).toBe(304)
  await endDeployment(registry, first, 'halted')
  const read = (headers: Record<string, string>) => registry.request(path, { headers })
  const line = await call(registry.request, 'GET', path, undefined, { accept: 'text/plain' })
  expect(line.status).toBe(200)
  const stream = { accept: 'text/event-stream' }
  const ids = [...(await (await read(stream)).text()).matchAll(/^id: (.+)$/gm)]
  const last = ids.at(-1)?.[1] ?? ''
  const again = { ...stream, 'last-event-id': last }
  expect((await call(registry.request, 'GET', path, undefined, again)).status).toBe(204)
})

it('a push and the changes of a deployment are as described', async () => {
  const repository = newRepository()
  await followTag(registry, repository, 'live', [{ name: `h-${repository.replace('/', '-')}` }])
  const path = `/api/v1/repositories/${repository}/images?tag=live`
  const pushed = await call(registry.request, 'POST', path, formOf('hello-key-1'))
  expect(pushed.headers.get('link')).toContain('rel="monitor"')
  const [made] = pushed.body.deployments as [{ id: string }]
  const act = (action: string) =>
    call(registry.request, 'POST', `/api/v1/deployments/${made.id}/${action}`)
  for (const action of ['pause', 'resume', 'cancel']) expect((await act(action)).status).toBe(200)
  await rowsOf(registry, "update targets set state = 'failed' where deployment_id = $1", [made.id])
  expect((await act('retry')).status).toBe(201)
})

it('rollouts are as described when they are made, replaced, listed, read and removed', async () => {
  const path = '/api/v1/rollouts/careful'
  const rollout = { repositories: ['a/**'], canary: 1, batch: '25%', require: { site: 'a' } }
  expect((await call(registry.request, 'PUT', path, rollout)).status).toBe(201)
  const replaced = await call(registry.request, 'PUT', path, { ...rollout, tags: ['live'] })
  expect([replaced.status, replaced.body.tags]).toEqual([200, ['live']])
  expect(await listAll(registry.request, '/api/v1/rollouts?n=1', 'rollouts')).toHaveLength(1)
  expect((await call(registry.request, 'GET', path)).body).toEqual(replaced.body)
  expect((await call(registry.request, 'DELETE', path)).status).toBe(204)
})

it('the tests saw every described success of deployments', () => {
  const described = OPERATIONS.filter(({ path }) =>
    /\/(?:deployments|rollouts)\b/.test(path),
  ).flatMap(({ method, path, place }) =>
    partsOf(place, 'responses')
      .filter(([status]) => /^[23]/.test(status))
      .map(([status]) => `${method} ${path} ${status}`),
  )
  expect(described.length).toBeGreaterThan(3)
  expect(described.filter((one) => !seen.has(one))).toEqual([])
})
