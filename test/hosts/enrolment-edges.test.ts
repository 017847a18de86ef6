import { generateKeyPairSync } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential, sql } from '../auth/credentials-client.ts'
import {
  assertionOf,
  enrolHost,
  issuerOf,
  keyFields,
  makeCode,
  makeHostKey,
  postForm,
} from '../support/hosts.ts'
import { expectError } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { HostsClient } from './hosts-client.ts'

let client: HostsClient
let registry: TestRegistry

beforeAll(async () => {
  client = await HostsClient.open({ ROOKERY_HOST_ENROLMENT: 'approve' })
  ;({ registry } = client)
})

afterAll(() => registry.close())

async function messageOf(answer: Response): Promise<string> {
  const { errors } = (await answer.json()) as { errors: { message: string }[] }
  return String(errors[0]?.message)
}

describe('a host that waits for its approval', () => {
  const expire = (name: string) =>
    sql(registry, `update hosts set expires_at = now() - interval '1 s' where name = $1`, [name])

  it('is active at once when it has a code, with the same key', async () => {
    const key = makeHostKey()
    expect((await client.ask('has-code', key)).status).toBe(202)
    const code = await makeCode(registry, { name: 'has-code' })
    const enrolled = await client.enrol(client.keyed(key, { code }))
    expect(enrolled.status).toBe(201)
    expect(await enrolled.json()).toMatchObject({ host: 'has-code', state: 'active' })
    expect((await client.mint(key)).status).toBe(200)
  })

  it('gets the name of its code, and keeps no other', async () => {
    const key = makeHostKey()
    expect((await client.ask('first-name', key)).status).toBe(202)
    const code = await makeCode(registry, { name: 'other-name' })
    expect((await client.enrol(client.keyed(key, { code }))).status).toBe(201)
    await expectError(await registry.request('/api/v1/hosts/first-name'), 404, 'NOT_FOUND')
  })

  it('waits again with the same key after its time, also under another name', async () => {
    const key = makeHostKey()
    for (const name of ['late-1', 'late-1', 'late-2']) {
      expect((await client.ask(name, key)).status).toBe(202)
      const left = await sql(
        registry,
        `select 1 from hosts where name = $1 and state = 'pending' and expires_at > now()`,
        [name],
      )
      expect(left).toHaveLength(1)
      await expire(name)
    }
    const approval = { fingerprint: key.thumbprint, repositories: ['builds/*'] }
    const late = await client.send('POST', '/api/v1/hosts/late-2/approve', approval)
    expect(late.status).toBe(409)
    expect(await messageOf(late)).toMatch(/waited too long: it enrols again/)
  })

  it('is approved once, by one of several', async () => {
    const key = makeHostKey()
    expect((await client.ask('approved', key)).status).toBe(202)
    const approval = { fingerprint: key.thumbprint, repositories: ['builds/*'] }
    const answers = await Promise.all(
      [1, 2, 3].map(() => client.send('POST', '/api/v1/hosts/approved/approve', approval)),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409])
  })
})

describe('a code', () => {
  it('that is guessed slows down the guesser, and no host with a code', async () => {
    const code = await makeCode(registry, { name: 'guessed' })
    const from = '198.51.100.77'
    const guess = () => client.enrol(client.keyed(makeHostKey(), { code: newCode() }), from)
    const statuses = []
    for (let guesses = 0; guesses < 21; guesses += 1) statuses.push((await guess()).status)
    expect(statuses.slice(0, 20)).toEqual(Array(20).fill(404))
    expect(statuses.at(-1)).toBe(429)
    expect((await client.enrol(client.keyed(makeHostKey(), { code }), from)).status).toBe(201)
  })

  const newCode = () => `rke_${makeHostKey().thumbprint}_00000000`

  it('that is empty, or of another kind, is no code', async () => {
    const { secret } = await makeCredential(registry, { repositories: ['a'], actions: ['pull'] })
    const answer = await client.enrol(client.keyed(makeHostKey(), { code: secret }))
    await expectError(answer, 404, 'NOT_FOUND')
    const named = client.keyed(makeHostKey(), { code: '', name: 'no-code' })
    expect((await client.enrol(named)).status).toBe(202)
  })

  it('is used from its networks as a trusted proxy says, and from nowhere as a client says', async () => {
    const direct = await startRegistry()
    try {
      const code = await makeCode(direct, { name: 'near', networks: ['192.0.2.0/24'] })
      const fields = keyFields(makeHostKey(), await issuerOf(direct), { code })
      for (const header of ['x-forwarded-for', 'forwarded']) {
        const value = header === 'forwarded' ? 'for=192.0.2.9' : '192.0.2.9'
        const answer = await postForm(direct, '/api/v1/hosts/enrol', fields, { [header]: value })
        await expectError(answer, 403, 'DENIED')
      }
    } finally {
      await direct.close()
    }
    const code = await makeCode(registry, { name: 'mapped', networks: ['192.0.2.0/24'] })
    const fields = client.keyed(makeHostKey(), { code })
    await expectError(await client.enrol(fields, '::ffff:198.51.100.1'), 403, 'DENIED')
    expect((await client.enrol(fields, '::ffff:192.0.2.9')).status).toBe(201)
  })
})

describe('a name of a host', () => {
  const WRONG = [
    '',
    ' ',
    'Web',
    'web-1 ',
    '-web',
    'web-',
    '.',
    '..',
    'a..b/..',
    'a/b',
    'wéb',
    'wеb',
  ]
    .concat(['web\n', 'web\0', 'a'.repeat(65), 'enrol', 'host:1', 'admin', '%2e%2e'])
    .map((name) => [name])

  it.each(WRONG)('cannot be %j', async (name) => {
    const code = await client.send('POST', '/api/v1/enrolments', { name, repositories: ['a'] })
    await expectError(code, 400, 'REQUEST_INVALID')
    const secret = await client.send('POST', '/api/v1/hosts', { name, repositories: ['a'] })
    await expectError(secret, 400, 'REQUEST_INVALID')
    await expectError(await client.ask(name, makeHostKey()), 400, 'REQUEST_INVALID')
  })

  it.each(['a', '0', 'a.b_c-d', 'web..1', 'a'.repeat(64)])('can be %j', async (name) => {
    expect((await client.ask(name, makeHostKey(), '203.0.113.1')).status).toBe(202)
    expect((await registry.request(`/api/v1/hosts/${name}`)).status).toBe(200)
  })
})

it('a private key that is sent by mistake is neither stored nor logged', async () => {
  const pair = generateKeyPairSync('ed25519')
  const { d = '', ...jwk } = pair.privateKey.export({ format: 'jwk' })
  const pem = pair.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString()
  const body = pem.split('\n')[1] ?? ''
  const proof = assertionOf(makeHostKey(), client.audience)
  const wrong = [JSON.stringify({ ...jwk, d }), JSON.stringify({ d, ...jwk }), `{"d":"${d}"`, pem]
  for (const text of [...wrong, d]) {
    const fields = { name: 'oops', jwk: text, proof }
    const sent = [
      await client.enrol(fields),
      await client.send('POST', '/api/v1/hosts/enrol', fields),
      await client.enrol({ ...fields, name: text, jwk: JSON.stringify(jwk) }),
    ]
    for (const answer of sent) {
      expect(answer.status).toBe(400)
      const said = await answer.text()
      expect([said.includes(d), said.includes(body)]).toEqual([false, false])
    }
  }
  const log = registry.log.join('')
  expect([log.includes(d.slice(0, 12)), log.includes(body.slice(0, 40))]).toEqual([false, false])
  const audit = JSON.stringify(await sql(registry, 'select detail from audit'))
  expect([audit.includes(d), audit.includes(body)]).toEqual([false, false])
  expect(await sql(registry, `select 1 from host_keys where jwk ? 'd'`)).toEqual([])
})

it('members of a key that have no effect are not stored', async () => {
  const key = makeHostKey()
  const code = await makeCode(registry, { name: 'members' })
  const jwk = JSON.stringify({
    ...key.jwk,
    kid: 'mine',
    use: 'sig',
    alg: 'EdDSA',
    key_ops: ['verify'],
  })
  const enrolled = await client.enrol({ ...client.keyed(key, { code }), jwk })
  expect(enrolled.status).toBe(201)
  expect(await enrolled.json()).toMatchObject({ fingerprint: key.thumbprint })
  const stored = await sql(registry, 'select jwk from host_keys where thumbprint = $1', [
    key.thumbprint,
  ])
  expect(stored).toEqual([{ jwk: key.jwk }])
})

describe('several rotations at once', () => {
  it('leave a host that has the key of each answer, and at most four', async () => {
    const host = await enrolHost(registry)
    const keys = Array.from({ length: 8 }, () => makeHostKey())
    const statuses = await Promise.all(
      keys.map(async (key) => {
        const fields = client.keyed(key, { assertion: assertionOf(host.key, client.audience) })
        const path = `/api/v1/hosts/${host.name}/keys`
        return (await host.request(path, { method: 'POST', body: new URLSearchParams(fields) }))
          .status
      }),
    )
    expect(statuses.filter((status) => status === 200)).toHaveLength(3)
    expect(statuses.filter((status) => status === 409)).toHaveLength(5)
    for (const [index, key] of keys.entries()) {
      expect((await client.mint(key)).status).toBe(statuses[index] === 200 ? 200 : 400)
    }
    expect((await client.mint(host.key)).status).toBe(200)
  })

  it('of two hosts to one key give it to one of them', async () => {
    const hosts = [await enrolHost(registry), await enrolHost(registry)]
    const key = makeHostKey()
    const statuses = await Promise.all(
      hosts.map(async (host) => {
        const fields = client.keyed(key, { assertion: assertionOf(host.key, client.audience) })
        const path = `/api/v1/hosts/${host.name}/keys`
        const init = { method: 'POST', body: new URLSearchParams(fields) }
        return (await host.request(path, init)).status
      }),
    )
    expect(statuses.sort()).toEqual([200, 409])
  })
})

describe('labels', () => {
  it('are changed by a caller with admin, which may neither pull nor be in the networks of the host', async () => {
    const host = await enrolHost(registry, { repositories: ['team/*'], networks: ['127.0.0.0/8'] })
    const { name, secret } = await makeCredential(registry, {
      repositories: ['team/**'],
      actions: ['admin'],
      networks: ['198.51.100.0/24'],
    })
    const headers = { authorization: basic(name, secret), 'x-forwarded-for': '198.51.100.3' }
    const path = `/api/v1/hosts/${host.name}`
    const labelled = await client.send('PATCH', path, { labels: { site: 'b' } }, headers)
    expect(labelled.status).toBe(200)
    expect(await labelled.json()).toMatchObject({
      labels: { site: 'b' },
      networks: ['127.0.0.0/8'],
      repositories: ['team/*'],
    })
    const more = { repositories: ['team/**'], labels: { site: 'b' } }
    await expectError(await client.send('PATCH', path, more, headers), 403, 'DENIED')
    const wrong = { labels: { 'Not a label': 'b' } }
    await expectError(await client.send('PATCH', path, wrong, headers), 400, 'REQUEST_INVALID')
  })

  it.each(['last=%00:1', 'last=a%00', 'label=a%3D%00', 'label=%00%3Da', 'label=a%3D%22%5C'])(
    'and places of a list may have any character: %s',
    async (query) => {
      const { status } = await registry.request(`/api/v1/hosts?${query}`)
      expect(status).toBeOneOf([200, 400])
    },
  )
})
