import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { expectError } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let team: string
let tagBound: string
let pusher: string

beforeAll(async () => {
  registry = await startRegistry()
  const login = async (grant: object) => {
    const { name, secret } = await makeCredential(registry, { repositories: ['team/**'], ...grant })
    return basic(name, secret)
  }
  team = await login({ actions: ['admin'] })
  tagBound = await login({ actions: ['admin'], tags: ['live', 'v*'] })
  pusher = await login({ actions: ['pull', 'push'] })
})
afterAll(() => registry.close())

function send(who: string, method: string, name: string, body?: object): Promise<Response> {
  return registry.anonymous(`/api/v1/rollouts${name === '' ? '' : `/${name}`}`, {
    method,
    headers: { authorization: who, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
}

const names = async (who: string) => {
  const { rollouts } = (await (await send(who, 'GET', '')).json()) as {
    rollouts: { name: string }[]
  }
  return rollouts.map(({ name }) => name)
}

describe('a rollout', () => {
  it('updates all units at once unless it says something else', async () => {
    const answer = await send(team, 'PUT', 'plain', { repositories: ['team/www'] })
    expect([answer.status, answer.headers.get('location')]).toEqual([201, '/api/v1/rollouts/plain'])
    expect(await answer.json()).toEqual({
      ...{ name: 'plain', repositories: ['team/www'], tags: ['**'] },
      ...{ canary: 0, batch: null, order: 'name', settleSeconds: 30, deadlineSeconds: 300 },
      ...{ pauseAfter: null, maxFailures: 0, onFailure: 'halt', require: {} },
      updatedAt: expect.any(String),
    })
  })

  it('is shown, replaced as a whole, and removed', async () => {
    const rules = {
      ...{ repositories: ['team/**'], tags: ['live'], canary: '10%', batch: 5, order: 'site' },
      ...{ settleSeconds: 0, deadlineSeconds: 60, pauseAfter: 'canary', maxFailures: '5%' },
      ...{ onFailure: 'rollback', require: { site: 'a' } },
    }
    const made = await send(team, 'PUT', 'whole', rules)
    expect(await made.json()).toMatchObject(rules)
    expect(await (await send(team, 'GET', 'whole')).json()).toMatchObject(rules)
    const replaced = await send(team, 'PUT', 'whole', { repositories: ['team/a'] })
    expect([replaced.status, await replaced.json()]).toMatchObject([
      200,
      { canary: 0, batch: null },
    ])
    expect((await send(team, 'DELETE', 'whole')).status).toBe(204)
    await expectError(await send(team, 'GET', 'whole'), 404, 'NOT_FOUND')
    await expectError(await send(team, 'DELETE', 'whole'), 404, 'NOT_FOUND')
  })

  it('is in the audit log', async () => {
    await send(team, 'PUT', 'audited', { repositories: ['team/www'] })
    await send(team, 'DELETE', 'audited')
    const page = await registry.request('/api/v1/audit?n=5')
    const { entries } = (await page.json()) as { entries: { action: string; detail: string }[] }
    const seen = entries.map(({ action, detail }) => `${action} ${detail}`)
    expect(seen).toEqual(expect.arrayContaining(['put-rollout audited', 'remove-rollout audited']))
  })
})

describe('only those who administer everything that a rollout names', () => {
  it('make, see and remove it', async () => {
    const admin = basic('admin', registry.password)
    expect((await send(admin, 'PUT', 'everything', { repositories: ['**'] })).status).toBe(201)
    expect(await names(admin)).toContain('everything')
    expect(await names(team)).not.toContain('everything')
    await expectError(await send(team, 'GET', 'everything'), 404, 'NOT_FOUND')
    await expectError(await send(team, 'DELETE', 'everything'), 404, 'NOT_FOUND')
    const own = { repositories: ['team/**'] }
    await expectError(await send(team, 'PUT', 'everything', own), 403, 'DENIED')
    await expectError(await send(team, 'PUT', 'mine', { repositories: ['**'] }), 403, 'DENIED')
    await expectError(await send(pusher, 'PUT', 'mine', own), 403, 'DENIED')
    expect(await names(pusher)).toEqual([])
  })

  it('and with tag patterns only for those tags', async () => {
    const of = (tags?: string[]) => ({ repositories: ['team/**'], ...(tags && { tags }) })
    await expectError(await send(tagBound, 'PUT', 'bound', of()), 403, 'DENIED')
    await expectError(await send(tagBound, 'PUT', 'bound', of(['live', 'edge'])), 403, 'DENIED')
    expect((await send(tagBound, 'PUT', 'bound', of(['live', 'v1*']))).status).toBe(201)
  })
})

it.each([
  ['canary', -1],
  ['canary', '101%'],
  ['canary', 1.5],
  ['canary', '1'],
  ['batch', 0],
  ['batch', '0%'],
  ['maxFailures', 'all'],
  ['order', 'By Name'],
  ['settleSeconds', 4000],
  ['deadlineSeconds', 1],
  ['pauseAfter', 'lunch'],
  ['onFailure', 'retry'],
  ['require', { site: '' }],
  ['require', ['site=a']],
  ['repositories', ['A']],
  ['tags', []],
])('%s cannot be %j', async (field, value) => {
  const body = { repositories: ['team/www'], [field]: value }
  const answer = await send(team, 'PUT', 'wrong', body)
  const text = await answer.text()
  expect([answer.status, text]).toEqual([400, expect.stringContaining('"errors"')])
})
