import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { basic, makeCredential, openTokenMinter } from './credentials-client.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
  await pushImage(registry, 'open/www', 'v1')
  await pushImage(registry, 'secret/www', 'v1')
  const settings = { visibility: 'private' }
  await registry.request('/api/v1/repositories/secret/www/settings', {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(settings),
  })
})
afterAll(() => registry.close())

type Request = { method?: string; path: string; authorization?: string }

async function refusal({ method = 'GET', path, authorization }: Request) {
  const headers = authorization === undefined ? {} : { authorization }
  const answer = await registry.anonymous(path, { method, headers })
  const { errors } = (await answer.json()) as { errors: [{ code: string; message: string }] }
  const [{ code, message }] = errors
  return `${answer.status} ${code} ${message}`
}

async function tokenFor(user: string, secret: string, scope: string) {
  const answer = await registry.anonymous(`/token?scope=${encodeURIComponent(scope)}`, {
    headers: { authorization: basic(user, secret) },
  })
  return `Bearer ${((await answer.json()) as { token: string }).token}`
}

describe('a refusal of a credential', () => {
  it('names the missing action, the repository and what the credential is for', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['builds/**', 'tools/*'],
      actions: ['pull', 'push'],
      tags: ['v*'],
    })
    const authorization = basic(name, secret)
    const grants = 'it is for builds/**, tools/* (pull, push; tags v*)'
    const refused = [
      ['PUT', '/v2/open/www/manifests/v1', `may not push in open/www: ${grants}`],
      ['DELETE', '/v2/builds/a/manifests/v1', `may not delete in builds/a: ${grants}`],
      ['PUT', '/v2/builds/a/manifests/live', `may not push tag live in builds/a: ${grants}`],
      [
        'GET',
        '/metrics',
        `may not read the metrics; rookery credential create NAME --metrics makes one that may: ${grants}`,
      ],
      ['GET', '/api/v1/credentials', `may not do this, which needs an administrator: ${grants}`],
      ['GET', '/api/v1/repositories/builds/a/settings', `may not admin in builds/a: ${grants}`],
    ] as const
    for (const [method, path, text] of refused) {
      const found = await refusal({ method, path, authorization })
      expect(found).toBe(`403 DENIED the credential ${name} ${text}`)
    }
  })

  it('names what it cannot pull, the same for a private repository and a missing one', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['builds/**', 'secret/*'],
      actions: ['push'],
    })
    const other = await makeCredential(registry, { repositories: ['x/y'], actions: ['pull'] })
    for (const [holder, authorization, grants] of [
      [name, basic(name, secret), 'builds/**, secret/* (push)'],
      [other.name, basic(other.name, other.secret), 'x/y (pull)'],
    ]) {
      for (const [kind, path] of PULLS) {
        const [there, missing] = await Promise.all(
          ['secret/www', 'secret/wwx'].map((repository) =>
            refusal({ path: path(repository), ...(authorization ? { authorization } : {}) }),
          ),
        )
        expect(there?.replaceAll('secret/www', 'secret/wwx'), kind).toBe(missing)
        expect(missing).toContain(
          `404 NAME_UNKNOWN there is no public repository secret/wwx, and the credential ${holder} may not pull in secret/wwx: it is for ${grants}`.replaceAll(
            'secret/www',
            'secret/wwx',
          ),
        )
      }
    }
  })

  it('is bounded, also with very many patterns', async () => {
    const repositories = Array.from({ length: 20 }, (_, at) => `${'long'.repeat(40)}/${at}`)
    const { name, secret } = await makeCredential(registry, { repositories, actions: ['pull'] })
    const found = await refusal({
      method: 'PUT',
      path: '/v2/a/b/manifests/v1',
      authorization: basic(name, secret),
    })
    expect(found.length).toBeLessThan(600)
  })
})

describe('a refusal of a token', () => {
  it('names the repository that the token is for', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['**'],
      actions: ['push'],
    })
    const authorization = await tokenFor(name, secret, 'repository:x/y:push')
    const put = { method: 'PUT', path: '/v2/a/b/manifests/v1', authorization }
    expect(await refusal(put)).toBe(
      `401 UNAUTHORIZED the token of ${name} does not cover push in a/b: it is for x/y (push)`,
    )
    const pull = { path: '/v2/secret/www/manifests/v1', authorization }
    expect(await refusal(pull)).toBe(
      `401 UNAUTHORIZED there is no public repository secret/www, and the token of ${name} does not cover pull in secret/www: it is for x/y (push)`,
    )
  })

  it('names a repository once that a client asked for twice, as crane and podman do', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['x/*'],
      actions: ['pull'],
    })
    const twice = 'repository:x/y:pull repository:x/y:push,pull repository:x/z:pull'
    const authorization = await tokenFor(name, secret, twice)
    const put = { method: 'PUT', path: '/v2/x/y/manifests/v1', authorization }
    expect(await refusal(put)).toBe(
      `401 UNAUTHORIZED the token of ${name} does not cover push in x/y: it is for x/y (pull), x/z (pull)`,
    )
  })

  it('says that it has no access', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['x/y'],
      actions: ['push'],
    })
    const authorization = await tokenFor(name, secret, 'repository:a/b:push')
    const put = { method: 'PUT', path: '/v2/a/b/manifests/v1', authorization }
    expect(await refusal(put)).toMatch(/does not cover push in a\/b: it has no access/)
  })
})

describe('a challenge', () => {
  const challenge = async ({ method = 'GET', path, authorization = '' }: Request) => {
    const answer = await registry.anonymous(path, { method, headers: { authorization } })
    return /error_description="([^"]*)"/.exec(answer.headers.get('www-authenticate') ?? '')?.[1]
  }

  it('says the same as the body, for clients that ask with HEAD as docker push does', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['x/y'],
      actions: ['push'],
    })
    const authorization = await tokenFor(name, secret, 'repository:x/y:push')
    for (const path of ['manifests/v1', `blobs/sha256:${'0'.repeat(64)}`]) {
      const asked = { path: `/v2/secret/www/${path}`, authorization }
      const text = `there is no public repository secret/www, and the token of ${name} does not cover pull in secret/www: it is for x/y (push)`
      expect(await refusal(asked)).toBe(`401 UNAUTHORIZED ${text}`)
      expect(await challenge(asked)).toBe(text)
      expect(await challenge({ ...asked, method: 'HEAD' })).toBe(text)
    }
  })

  it('has only characters that a header may have, and is short', async () => {
    const name = 'long'.repeat(60)
    const access = [{ type: 'repository', name, actions: ['pull'] }] as const
    const minter = await openTokenMinter(registry)
    try {
      // The names of identities are those that other issuers gave them.
      const { token } = await minter.tokens.mint({ subject: 'a"\\ü\u{1f42b}b', access }, 60)
      const path = `/v2/${'a'.repeat(200)}/manifests/v1`
      const text = (await challenge({ path, authorization: `Bearer ${token}` })) ?? ''
      expect(text).toContain("the token of a'???b does not cover")
      expect(text.length).toBeLessThan(510)
    } finally {
      await minter.close()
    }
  })
})

const PULLS: [string, (repository: string) => string][] = [
  ['manifest', (name) => `/v2/${name}/manifests/v1`],
  ['tags', (name) => `/v2/${name}/tags/list`],
  ['images', (name) => `/api/v1/repositories/${name}/images`],
  ['kernel', (name) => `/api/v1/repositories/${name}/images/v1/kernel`],
  ['history', (name) => `/api/v1/repositories/${name}/tags/v1/history`],
]

describe('a refusal without a login', () => {
  it.each(PULLS)('is the same for a private and a missing repository: %s', async (_kind, path) => {
    const there = await refusal({ path: path('secret/www') })
    const missing = await refusal({ path: path('secret/wwx') })
    expect(there.replaceAll('secret/www', 'secret/wwx')).toBe(missing)
    expect(missing).toBe(
      '401 UNAUTHORIZED authentication required: there is no public repository secret/wwx, or it needs a login',
    )
  })

  it('names the right that needs one', async () => {
    const path = '/v2/open/www/manifests/v1'
    expect(await refusal({ method: 'PUT', path })).toMatch(/required: push in open\/www needs/)
    expect(await refusal({ path: '/api/v1/audit' })).toMatch(/this needs an administrator/)
  })
})

describe('other refusals', () => {
  it.each([
    [
      'POST',
      `/v2/a/b/blobs/uploads/?digest=sha256:${'0'.repeat(64)}`,
      /the content has the digest/,
    ],
    ['PATCH', '/v2/open/www/tags/list', /no PATCH, but (HEAD, )?GET/],
    ['GET', '/v3/', /\/v2\/.*\/api\/v1\//],
  ])('say what was wrong: %s %s', async (method, path, message) => {
    const answer = await registry.request(path, { method })
    expect(await answer.text()).toMatch(message)
  })
})
