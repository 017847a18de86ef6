import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { startIssuer, type TestIssuer } from './issuer.ts'

let registry: TestRegistry
let issuer: TestIssuer

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_OIDC_ALLOW_NETWORKS: '127.0.0.0/8',
    ROOKERY_DEFAULT_VISIBILITY: 'private',
  })
  issuer = await startIssuer()
})

afterAll(async () => {
  await issuer.close()
  await registry.close()
})

const policy = (name: string, changes: object = {}) => ({
  name,
  issuer: issuer.url,
  audience: 'https://registry.example',
  conditions: { repository: 'octo/*' },
  repositories: ['builds/octo'],
  actions: ['pull', 'push'],
  ...changes,
})

const PATH = '/api/v1/policies'

async function api(method: string, path: string, body?: unknown) {
  const sent = { 'content-type': 'application/json' }
  const init = body === undefined ? {} : { headers: sent, body: JSON.stringify(body) }
  const answer = await registry.request(path, { method, ...init })
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, body: text && JSON.parse(text) }
}

async function exchange(token: string, scope: string) {
  const answer = await registry.anonymous('/token', {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: token,
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      scope,
    }),
  })
  const body = (await answer.json()) as Record<string, unknown>
  return { status: answer.status, headers: answer.headers, body }
}

async function pushStatus(token: unknown, repository: string): Promise<number> {
  const answer = await registry.anonymous(`/v2/${repository}/blobs/uploads/`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
  })
  return answer.status
}

describe('the API of trust policies', () => {
  it('creates, reads, lists and removes them', async () => {
    const made = await api('POST', PATH, policy('one', { tokenSeconds: 60, tags: ['v*'] }))
    expect(made.status).toBe(201)
    expect(made.headers.get('location')).toBe(`${PATH}/one`)
    expect(made.body).toMatchObject({
      name: 'one',
      conditions: { repository: ['octo/*'] },
      tags: ['v*'],
      tokenSeconds: 60,
      createdBy: 'admin',
    })
    expect((await api('GET', `${PATH}/one`)).body).toEqual(made.body)
    await api('POST', PATH, policy('two'))
    const first = await api('GET', `${PATH}?n=1`)
    expect(first.body).toEqual({ policies: [made.body] })
    const [, next = ''] = /<(.+)>; rel="next"/.exec(first.headers.get('link') ?? '') ?? []
    expect((await api('GET', next)).body.policies).toMatchObject([{ name: 'two' }])
    for (const name of ['one', 'two']) {
      expect((await api('DELETE', `${PATH}/${name}`)).status).toBe(204)
      expect((await api('DELETE', `${PATH}/${name}`)).status).toBe(404)
      expect((await api('GET', `${PATH}/${name}`)).status).toBe(404)
    }
  })

  it('refuses invalid requests', async () => {
    await api('POST', PATH, policy('taken'))
    expect((await api('POST', PATH, policy('taken'))).status).toBe(409)
    await api('DELETE', `${PATH}/taken`)
    for (const body of [
      {},
      [],
      policy('x', { more: 1 }),
      policy('x', { conditions: {} }),
      policy('x', { issuer: 'https://10.0.0.1' }),
      policy('x', { tokenSeconds: 1.5 }),
      policy('x', { tokenSeconds: '60' }),
    ]) {
      expect((await api('POST', PATH, body)).status, JSON.stringify(body)).toBe(400)
    }
    expect((await api('GET', `${PATH}/a%00b`)).status).toBe(404)
    expect((await api('POST', `${PATH}/test`, { token: 'x' })).status).toBe(400)
  })

  it('tests a token any number of times', async () => {
    await api('POST', PATH, policy('tested'))
    const token = await issuer.token()
    for (let index = 0; index < 2; index += 1) {
      const { status, body } = await api('POST', `${PATH}/test`, { token })
      expect(status).toBe(200)
      expect(body).toMatchObject({
        matches: 'tested',
        policies: [{ name: 'tested', matches: true }],
      })
    }
    await api('DELETE', `${PATH}/tried`)
  })
})

describe('an identity token of a CI system', () => {
  it('is exchanged for a token with the grant of the policy, until the policy is removed', async () => {
    await api('POST', PATH, policy('ci', { tokenSeconds: 120 }))
    const identity = await issuer.token()
    const asked = 'repository:builds/octo:pull,push,delete repository:builds/other:push'
    const { status, headers, body } = await exchange(identity, asked)
    expect(status).toBe(200)
    expect(headers.get('cache-control')).toBe('no-store')
    expect(body).toMatchObject({ expires_in: 120, scope: 'repository:builds/octo:pull,push' })
    expect(await pushStatus(body.access_token, 'builds/octo')).toBe(202)
    expect(await pushStatus(body.access_token, 'builds/other')).not.toBe(202)

    const again = await exchange(identity, asked)
    expect(again.status).toBe(401)
    expect(again.body.error_description).toBe('this identity token was used already')

    const audit = await api('GET', '/api/v1/audit?action=mint')
    expect(audit.body.entries[0]).toMatchObject({
      actor: 'ci/repo:octo/kernel:ref:refs/heads/main',
      origin: expect.stringMatching(/^policy:\d+$/),
    })
    expect((await api('DELETE', `${PATH}/ci`)).status).toBe(204)
    await expect
      .poll(() => pushStatus(body.access_token, 'builds/octo'), { timeout: 10_000 })
      .toBe(401)
  })

  it('is refused when no policy matches, and unavailable while its issuer is unreachable', async () => {
    await api('POST', PATH, policy('ci-2'))
    const stranger = await exchange(await issuer.token({ repository: 'evil/kernel' }), '')
    expect(stranger.status).toBe(401)
    expect(stranger.body).toMatchObject({
      error: 'invalid_grant',
      error_description: 'no trust policy matches this identity token',
    })
    const gone = await startIssuer()
    await api('POST', PATH, policy('ci-3', { issuer: gone.url }))
    const token = await gone.token()
    await gone.close()
    const put = await exchange(token, '')
    expect(put.status).toBe(503)
    expect(put.headers.get('retry-after')).toBe('5')
  })
})
