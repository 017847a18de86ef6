import { createHmac, generateKeyPairSync, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential, sql } from '../auth/credentials-client.ts'
import {
  assertionOf,
  enrolHost,
  issuerOf,
  JWT_BEARER,
  makeCode,
  makeHostKey,
  postForm,
  signJwt,
  type TestHost,
  type TestHostKey,
} from '../support/hosts.ts'
import { expectError, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry
let audience: string
let host: TestHost

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_DEFAULT_VISIBILITY: 'private',
    ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
  })
  audience = await issuerOf(registry)
  host = await enrolHost(registry, { repositories: ['builds/*'] })
  await pushImage(registry, 'builds/www', 'live')
  await pushImage(registry, 'secret/www', 'live')
})

afterAll(() => registry.close())

const seconds = (offset: number) => Math.floor(Date.now() / 1000) + offset

/** Sends an assertion, and returns the status and the reason of its refusal. */
async function refusal(assertion: string): Promise<string> {
  const answer = await postForm(registry, '/token', { grant_type: JWT_BEARER, assertion })
  expect(answer.status).toBe(400)
  expect(answer.headers.get('date')).toMatch(/GMT$/)
  const body = (await answer.json()) as Record<string, string>
  expect(body.error).toBe('invalid_grant')
  return String(body.error_description)
}

const enrol = (fields: Record<string, string>, from = '192.0.2.1') =>
  postForm(registry, '/api/v1/hosts/enrol', fields, { 'x-forwarded-for': from })

/** The fields of an enrolment with this key. */
const keyed = (key: TestHostKey, more: Record<string, string> = {}) => ({
  jwk: JSON.stringify(key.jwk),
  proof: assertionOf(key, audience),
  ...more,
})

const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

describe('an assertion', () => {
  const wrong: Record<string, [make: () => string, reason: RegExp]> = {
    'by another key under the name of this one': [
      () => signJwt({ ...makeHostKey(), thumbprint: host.key.thumbprint }, {}, claims()),
      /signature of the assertion is wrong/,
    ],
    'with another claim and the old signature': [
      () => {
        const [head, , signature] = assertionOf(host.key, audience).split('.')
        return `${head}.${part({ ...claims(), exp: seconds(200) })}.${signature}`
      },
      /signature of the assertion is wrong/,
    ],
    'of a key that no host has': [
      () => assertionOf(makeHostKey(), audience),
      /no host has the key/,
    ],
    'with iss of another host': [
      () => assertionOf(host.key, audience, { iss: makeHostKey().thumbprint }),
      /iss and sub must be the thumbprint/,
    ],
    'with sub of another host': [
      () => assertionOf(host.key, audience, { sub: 'web-2' }),
      /iss and sub must be the thumbprint/,
    ],
    'for another registry': [
      () => assertionOf(host.key, 'https://other.example'),
      /aud must be .*openid-configuration/,
    ],
    'for two registries': [
      () => assertionOf(host.key, audience, { aud: [audience, 'https://other.example'] }),
      /aud must be/,
    ],
    'without aud': [() => assertionOf(host.key, audience, { aud: undefined }), /aud must be/],
    'with alg none': [
      () => `${part({ alg: 'none', kid: host.key.thumbprint })}.${part(claims())}.`,
      /alg must be EdDSA or ES256/,
    ],
    'with HS256 by the public key': [
      () => {
        const text = `${part({ alg: 'HS256', kid: host.key.thumbprint })}.${part(claims())}`
        const mac = createHmac('sha256', JSON.stringify(host.key.jwk)).update(text)
        return `${text}.${mac.digest('base64url')}`
      },
      /alg must be EdDSA or ES256/,
    ],
    'with ES256 for a key of Ed25519': [
      () => assertionOf(host.key, audience, {}, { alg: 'ES256' }),
      /alg must be EdDSA/,
    ],
    'that brings its own key': [
      () => {
        const key = makeHostKey()
        return signJwt(key, { kid: host.key.thumbprint, jwk: key.jwk }, claims())
      },
      /a jwk header is not accepted/,
    ],
    'that names the address of a key': [
      () => assertionOf(host.key, audience, {}, { jku: 'https://other.example/keys' }),
      /a jku header is not accepted/,
    ],
    'with critical headers': [
      () => assertionOf(host.key, audience, {}, { crit: ['b64'], b64: false }),
      /header is not accepted/,
    ],
    'without kid': [
      () => assertionOf(host.key, audience, {}, { kid: undefined }),
      /kid must be the thumbprint/,
    ],
    'with a path as kid': [
      () => assertionOf(host.key, audience, {}, { kid: '../../etc/passwd' }),
      /kid must be the thumbprint/,
    ],
    'without jti': [
      () => assertionOf(host.key, audience, { jti: undefined }),
      /jti must be a text/,
    ],
    'with a long jti': [
      () => assertionOf(host.key, audience, { jti: 'a'.repeat(129) }),
      /jti must be a text/,
    ],
    'without exp': [
      () => assertionOf(host.key, audience, { exp: undefined }),
      /exp must be a time/,
    ],
    'with exp as a text': [
      () => assertionOf(host.key, audience, { exp: '2030-01-01' }),
      /exp must be a time/,
    ],
    'that lives for a day': [
      () => assertionOf(host.key, audience, { exp: seconds(86_400) }),
      /exp may be at most 300 s away$/,
    ],
    'of a clock that is behind': [
      () => assertionOf(host.key, audience, { iat: seconds(-3_600), exp: seconds(-3_480) }),
      /expired 348\d s ago: the clock of the host is 360\d s behind; the Date header of this answer/,
    ],
    'of a clock that is ahead': [
      () => assertionOf(host.key, audience, { iat: seconds(3_600), exp: seconds(3_720) }),
      /valid in 3[56]\d\d s only: the clock of the host is 3[56]\d\d s ahead/,
    ],
    'of a clock that is off and does not say so': [
      () => assertionOf(host.key, audience, { iat: undefined, exp: seconds(-40) }),
      /expired 4\d s ago: check the clock of the host/,
    ],
    'that is no token': [() => 'web-1', /must be a signed JSON Web Token/],
    'that is endless': [() => 'a'.repeat(5_000), /at most 4096 characters/],
  }
  const claims = () => ({
    iss: host.key.thumbprint,
    sub: host.key.thumbprint,
    aud: audience,
    iat: seconds(0),
    exp: seconds(120),
    jti: randomUUID(),
  })

  it.each(Object.entries(wrong))('%s is refused', async (_name, [make, reason]) => {
    expect(await refusal(make())).toMatch(reason)
  })

  it('of a clock that is 20 s off is accepted', async () => {
    for (const offset of [-20, 20]) {
      const off = { iat: seconds(offset), exp: seconds(offset + 10) }
      const assertion = assertionOf(host.key, audience, off)
      const answer = await postForm(registry, '/token', { grant_type: JWT_BEARER, assertion })
      expect(answer.status).toBe(200)
    }
  })

  it('is accepted once, also of several at the same time', async () => {
    const assertion = assertionOf(host.key, audience)
    const statuses = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const answer = await postForm(registry, '/token', { grant_type: JWT_BEARER, assertion })
        await answer.arrayBuffer()
        return answer.status
      }),
    )
    expect(statuses.filter((status) => status === 200)).toHaveLength(1)
    expect(await refusal(assertion)).toMatch(/was used already/)
  })

  it('of a proof is accepted by no other route', async () => {
    const key = makeHostKey()
    const code = await makeCode(registry, { name: 'proof-once' })
    const fields = keyed(key, { code })
    expect((await enrol(fields)).status).toBe(201)
    expect(await refusal(fields.proof)).toMatch(/was used already/)
  })

  it('is no access token, and no password', async () => {
    for (const authorization of [
      `Bearer ${assertionOf(host.key, audience)}`,
      basic(host.name, assertionOf(host.key, audience)),
    ]) {
      const answer = await registry.anonymous('/v2/', { headers: { authorization } })
      expect(answer.status).toBe(401)
    }
  })

  it('is refused from another network than those of the host', async () => {
    const bound = await enrolHost(registry, { name: 'bound', networks: ['127.0.0.0/8'] })
    const assertion = assertionOf(bound.key, audience)
    const from = { 'x-forwarded-for': '192.0.2.7' }
    const answer = await postForm(registry, '/token', { grant_type: JWT_BEARER, assertion }, from)
    expect(answer.status).toBe(400)
    const authorization = `Bearer ${await bound.token()}`
    const stolen = await registry.anonymous('/v2/', { headers: { authorization, ...from } })
    expect(stolen.status).toBe(401)
  })
})

describe('a key', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 512 }).publicKey.export({ format: 'jwk' })
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({
    format: 'jwk',
  })
  const own = makeHostKey()
  const wrong: Record<string, [jwk: unknown, reason: RegExp]> = {
    'with its private part': [
      own.privateKey.export({ format: 'jwk' }),
      /has the private key, which must not leave the host/,
    ],
    'that is symmetric': [{ kty: 'oct', k: 'c2VjcmV0' }, /has the private key/],
    'of RSA': [rsa, /is not a member of such a key/],
    'of another curve': [p384, /jwk must be a public key/],
    'of X25519': [{ ...own.jwk, crv: 'X25519' }, /jwk must be a public key/],
    'that is no point': [
      { kty: 'EC', crv: 'P-256', x: 'A'.repeat(43), y: 'A'.repeat(43) },
      /no point of its curve/,
    ],
    'for which anybody can sign': [{ ...own.jwk, x: 'A'.repeat(43) }, /weak key/],
    'that is too short': [{ ...own.jwk, x: 'AAAA' }, /jwk must be a public key/],
    'that is written otherwise': [{ ...own.jwk, x: `${own.jwk.x}=` }, /jwk must be a public key/],
    'with another member': [{ ...own.jwk, x5u: 'https://other.example' }, /not a member/],
    'that is huge': [{ ...own.jwk, use: 'a'.repeat(2_000) }, /at most 1024 characters/],
    'that is a list': [[own.jwk], /jwk must be a public key/],
  }
  it.each(Object.entries(wrong))('%s is refused', async (_name, [jwk, reason]) => {
    const fields = { name: 'weak', jwk: JSON.stringify(jwk), proof: assertionOf(own, audience) }
    const answer = await enrol(fields)
    expect(answer.status).toBe(400)
    const { errors } = (await answer.json()) as { errors: { message: string }[] }
    expect(errors[0]?.message).toMatch(reason)
  })

  it('without a proof that it signed is refused', async () => {
    const code = await makeCode(registry, { name: 'unproved' })
    const [mine, others] = [makeHostKey(), makeHostKey()]
    for (const proof of [
      assertionOf(mine, audience),
      assertionOf({ ...mine, thumbprint: others.thumbprint }, audience),
      assertionOf(others, 'https://other.example'),
      assertionOf(others, audience, { exp: seconds(-100), iat: seconds(-200) }),
    ]) {
      const answer = await enrol({ code, jwk: JSON.stringify(others.jwk), proof })
      await expectError(answer, 400, 'REQUEST_INVALID')
    }
    expect((await enrol(keyed(others, { code }))).status).toBe(201)
  })
})

describe('a code', () => {
  it('makes one host when several use it at once', async () => {
    const code = await makeCode(registry, { name: 'race' })
    const statuses = await Promise.all(
      Array.from({ length: 8 }, async () => (await enrol(keyed(makeHostKey(), { code }))).status),
    )
    expect(statuses.filter((status) => status === 201)).toHaveLength(1)
    // A loser that came later sees that the code was used.
    expect(statuses.filter((status) => status === 410 || status === 409)).toHaveLength(7)
    await expectError(await enrol(keyed(makeHostKey(), { code })), 410, 'GONE')
    const hosts = await sql(registry, `select 1 from hosts where name = 'race'`)
    expect(hosts).toHaveLength(1)
  })

  it('is refused from another network, and then works from its own', async () => {
    const code = await makeCode(registry, { name: 'near', networks: ['192.0.2.0/24'] })
    const key = makeHostKey()
    await expectError(await enrol(keyed(key, { code }), '198.51.100.1'), 403, 'DENIED')
    expect((await enrol(keyed(key, { code }), '192.0.2.9')).status).toBe(201)
  })

  it('for a name that is taken is 409, stays unused, and the old key still works', async () => {
    const taken = await enrolHost(registry, { name: 'taken' })
    const code = await makeCode(registry, { name: 'taken' })
    const key = makeHostKey()
    await expectError(await enrol(keyed(key, { code })), 409, 'CONFLICT')
    const assertion = assertionOf(taken.key, audience)
    const answer = await postForm(registry, '/token', { grant_type: JWT_BEARER, assertion })
    expect(answer.status).toBe(200)
    expect((await registry.request('/api/v1/hosts/taken', { method: 'DELETE' })).status).toBe(204)
    expect((await enrol(keyed(key, { code }))).status).toBe(201)
  })

  it('is for its name, and for a key that no other host has', async () => {
    const code = await makeCode(registry, { name: 'named' })
    await expectError(
      await enrol(keyed(makeHostKey(), { code, name: 'x' })),
      400,
      'REQUEST_INVALID',
    )
    await expectError(await enrol(keyed(host.key, { code })), 409, 'CONFLICT')
  })

  it('is void when its creator was revoked, and after its end', async () => {
    const lead = await makeCredential(registry, {
      repositories: ['builds/**'],
      actions: ['admin', 'pull'],
    })
    const make = async (name: string, networks?: string[]) => {
      const answer = await registry.anonymous('/api/v1/enrolments', {
        method: 'POST',
        headers: {
          authorization: basic(lead.name, lead.secret),
          'content-type': 'application/json',
        },
        body: JSON.stringify({ name, repositories: ['builds/*'], networks }),
      })
      expect(answer.status).toBe(201)
      return ((await answer.json()) as { code: string }).code
    }
    const [before, after, late] = [await make('before'), await make('after'), await make('late')]
    const key = makeHostKey()
    expect((await enrol(keyed(key, { code: before }))).status).toBe(201)
    await sql(registry, `update enrolments set expires_at = now() where name = 'late'`)
    await expectError(await enrol(keyed(makeHostKey(), { code: late })), 410, 'GONE')
    const path = `/api/v1/credentials/${lead.name}`
    expect((await registry.request(path, { method: 'DELETE' })).status).toBe(204)
    const refused = await enrol(keyed(makeHostKey(), { code: after }))
    await expectError(refused, 410, 'GONE')
    // A host that enrolled before stays: it runs for its operator, and not for a credential.
    const assertion = assertionOf(key, audience)
    const answer = await postForm(registry, '/token', { grant_type: JWT_BEARER, assertion })
    expect(answer.status).toBe(200)
  })

  it('never gives more than its creator has', async () => {
    const make = async (
      holder: Parameters<typeof makeCredential>[1],
      wanted: object,
      from = '10.1.2.3',
    ) => {
      const { name, secret } = await makeCredential(registry, holder)
      const answer = await registry.anonymous('/api/v1/enrolments', {
        method: 'POST',
        headers: {
          authorization: basic(name, secret),
          'content-type': 'application/json',
          'x-forwarded-for': from,
        },
        body: JSON.stringify({ name: 'more', ...wanted }),
      })
      const body = (await answer.json()) as { networks?: string[] }
      return { status: answer.status, networks: body.networks }
    }
    const admin = { repositories: ['team/*'], actions: ['admin', 'pull'] }
    const bound = { ...admin, networks: ['10.0.0.0/8'] }
    const team = { repositories: ['team/*'] }
    expect((await make(admin, team)).status).toBe(201)
    expect((await make(admin, { repositories: ['team/**'] })).status).toBe(403)
    expect((await make(admin, { repositories: ['team/*', 'other/*'] })).status).toBe(403)
    expect((await make({ ...admin, actions: ['push', 'pull'] }, team)).status).toBe(403)
    expect((await make({ ...admin, actions: ['admin'] }, team)).status).toBe(403)
    expect(await make(bound, team)).toEqual({ status: 201, networks: ['10.0.0.0/8'] })
    expect((await make(bound, { ...team, networks: ['10.7.0.0/16'] })).status).toBe(201)
    expect((await make(bound, { ...team, networks: ['0.0.0.0/0'] })).status).toBe(403)
    expect((await make(bound, { ...team, networks: ['10.0.0.0/7'] })).status).toBe(403)
  })
})

describe('a token of a host', () => {
  const rotate = (name: string, authorization: string) =>
    registry.anonymous(`/api/v1/hosts/${name}/keys`, {
      method: 'POST',
      headers: { authorization },
      body: new URLSearchParams(keyed(makeHostKey())),
    })

  it('speaks for no other host, and an administrator for none', async () => {
    const other = await enrolHost(registry)
    const authorization = `Bearer ${await host.token()}`
    await expectError(await rotate(other.name, authorization), 403, 'DENIED')
    await expectError(await rotate('never-was', authorization), 403, 'DENIED')
    const asAdmin = basic('admin', registry.password)
    const answer = await rotate(host.name, asAdmin)
    const { errors } = (await answer.json()) as { errors: { message: string }[] }
    expect(answer.status).toBe(403)
    expect(errors[0]?.message).toMatch(/may not speak as this host/)
  })

  it('reads its repositories and nothing else', async () => {
    const statuses: Record<string, number> = {}
    const requests: [method: string, path: string][] = [
      ['GET', '/v2/builds/www/manifests/live'],
      ['GET', '/v2/secret/www/manifests/live'],
      ['GET', '/api/v1/repositories/secret/www/images'],
      ['POST', '/v2/builds/www/blobs/uploads/'],
      ['DELETE', '/v2/builds/www/manifests/live'],
      ['DELETE', '/api/v1/repositories/builds/www'],
      ['POST', '/api/v1/repositories/builds/www/tags/live/rollback'],
      ['POST', '/api/v1/repositories/builds/www/tags/live/upload-urls'],
      ['GET', '/api/v1/audit'],
      ['GET', '/api/v1/credentials'],
      ['GET', `/api/v1/hosts/${host.name}`],
      ['DELETE', `/api/v1/hosts/${host.name}`],
      ['GET', '/metrics'],
    ]
    for (const [method, path] of requests) {
      statuses[`${method} ${path.replace(host.name, 'HOST')}`] = (
        await host.request(path, { method })
      ).status
    }
    expect(statuses).toEqual({
      'GET /v2/builds/www/manifests/live': 200,
      'GET /v2/secret/www/manifests/live': 401,
      'GET /api/v1/repositories/secret/www/images': 401,
      'POST /v2/builds/www/blobs/uploads/': 401,
      'DELETE /v2/builds/www/manifests/live': 401,
      'DELETE /api/v1/repositories/builds/www': 403,
      'POST /api/v1/repositories/builds/www/tags/live/rollback': 403,
      'POST /api/v1/repositories/builds/www/tags/live/upload-urls': 403,
      'GET /api/v1/audit': 403,
      'GET /api/v1/credentials': 403,
      'GET /api/v1/hosts/HOST': 404,
      'DELETE /api/v1/hosts/HOST': 404,
      'GET /metrics': 403,
    })
    const code = await host.request('/api/v1/enrolments', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'child', repositories: ['builds/*'] }),
    })
    expect(code.status).toBe(403)
  })

  it('gives no more by another request at /token', async () => {
    const authorization = `Bearer ${await host.token()}`
    const scopes = [
      'registry:admin:*',
      'host:another:report',
      'repository:secret/www:pull,push',
      'repository:builds/www:pull,push,delete,admin',
    ]
    const query = scopes.map((scope) => `scope=${scope}`).join('&')
    const answer = await registry.anonymous(`/token?${query}`, { headers: { authorization } })
    expect(await answer.json()).toMatchObject({ scope: 'repository:builds/www:pull' })
  })

  it('that was revoked after the door writes nothing', async () => {
    const revoked = await enrolHost(registry)
    await sql(
      registry,
      `insert into revocations (subject, revoked_at, expires_at)
       values ($1, now() - interval '1 hour', now() + interval '1 day')`,
      [`host:${revoked.id}`],
    )
    const key = makeHostKey()
    const answer = await revoked.request(`/api/v1/hosts/${revoked.name}/keys`, {
      method: 'POST',
      body: new URLSearchParams(keyed(key, { assertion: assertionOf(revoked.key, audience) })),
    })
    await expectError(answer, 401, 'UNAUTHORIZED')
    const keys = 'select 1 from host_keys where thumbprint = $1'
    expect(await sql(registry, keys, [key.thumbprint])).toEqual([])
  })
})

it('refusals of hosts are in the audit log, without codes and assertions', async () => {
  await expect
    .poll(async () => {
      const answer = await registry.request('/api/v1/audit?decision=refused&n=1000')
      const { entries } = (await answer.json()) as { entries: { detail: string }[] }
      const text = entries.map(({ detail }) => detail).join('\n')
      expect(text).not.toMatch(/rke_|eyJ/)
      return [
        /POST \/token: assertion:/,
        /hosts\/enrol: host near: this code may not be used/,
      ].every((one) => one.test(text))
    })
    .toBe(true)
  expect(registry.log.join('')).not.toMatch(/rke_|eyJ/)
})
