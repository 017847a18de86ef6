import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { findDockerLogin } from '../../src/client/docker-logins.ts'
import type { Login } from '../../src/client/login.ts'
import { RegistryApi } from '../../src/client/registry-api.ts'
import { RemoteRepository } from '../../src/client/remote-repository.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepository } from '../../src/oci/reference.ts'
import { FakeRegistry } from '../client/fake-registry.ts'
import { selfSigned } from '../outgoing/certificate.ts'

const LOGIN: Login = { kind: 'password', username: 'orb', password: 'a secret of the registry' }
const BASIC = `Basic ${Buffer.from(`${LOGIN.username}:${LOGIN.password}`).toString('base64')}`
const CONTENT = Buffer.from('a kernel')
const DIGEST = digestOf(CONTENT)
const CHALLENGES = (host: string) => [
  'Basic realm="x"',
  `Bearer realm="http://${host}/token",service="x"`,
]

let registry: FakeRegistry
/** Another host to which the registry sends its client. */
let hostile: FakeRegistry
const opened: { close(): Promise<void> }[] = []

beforeEach(async () => {
  registry = await FakeRegistry.open()
  hostile = await FakeRegistry.open()
  registry.interfere = ({ headers }, response) => {
    if (headers.authorization === BASIC) return false
    response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    return true
  }
})

afterEach(async () => {
  for (const one of opened.splice(0)) await one.close()
  await registry.close()
  await hostile.close()
})

function repository(): RemoteRepository {
  const options = { login: LOGIN, actions: 'pull,push' } as const
  const one = new RemoteRepository(registry.place, parseRepository('builds/www'), options)
  opened.push(one)
  return one
}

function api(): RegistryApi {
  const one = new RegistryApi(registry.place, { login: LOGIN })
  opened.push(one)
  return one
}

const push = () =>
  repository().putBlob(DIGEST, 'www.hvt', { size: CONTENT.length, open: () => CONTENT })
const pull = () => repository().readRange(DIGEST, 0, 3)

/** Makes the registry answer matching requests of the logged-in client. */
function answerWith(method: string, status: number, headers: Record<string, string>): void {
  const before = registry.interfere
  registry.interfere = (seen, response) => {
    if (before(seen, response)) return true
    if (seen.method !== method) return false
    response.writeHead(status, headers).end()
    return true
  }
}

/** Makes the other host refuse everything with a challenge. */
function challengeWith(challenge: string): void {
  hostile.interfere = (_seen, response) => {
    response.writeHead(401, { 'www-authenticate': challenge }).end()
    return true
  }
}

function expectNoSecret(): void {
  for (const { headers, body, query } of hostile.seen) {
    expect(headers.authorization).toBeUndefined()
    expect(`${JSON.stringify(headers)} ${body} ${query}`).not.toContain('secret')
  }
}

describe('the login of a registry', () => {
  it('is not sent to the host of a redirect, and its challenge is not answered', async () => {
    for (const status of [301, 302, 303, 307, 308]) {
      for (const challenge of CHALLENGES(hostile.host)) {
        challengeWith(challenge)
        answerWith('GET', status, { location: `http://${hostile.host}/blob` })
        await expect(pull()).rejects.toThrow(/refused bytes 0 to 3/)
        expectNoSecret()
      }
    }
    expect(hostile.count('GET', /^\/blob$/)).toBe(10)
    expect(hostile.count('GET', /token/)).toBe(0)
  })

  it('is not sent to another host that an upload names, and its challenge is not answered', async () => {
    for (const challenge of CHALLENGES(hostile.host)) {
      challengeWith(challenge)
      answerWith('POST', 202, { location: `http://${hostile.host}/upload/1` })
      await expect(push()).rejects.toThrow(/refused www\.hvt/)
      expectNoSecret()
    }
    expect(hostile.count('PUT', /^\/upload\/1$/)).toBe(2)
    expect(hostile.count('GET', /token/)).toBe(0)
  })

  it('is not sent to another host that a page names', async () => {
    answerWith('GET', 200, {})
    const before = registry.interfere
    for (const next of [`http://${hostile.host}/2`, `@${hostile.host}/2`, `.evil.invalid/2`]) {
      registry.interfere = (seen, response) => {
        if (seen.headers.authorization !== BASIC) return before(seen, response)
        response.writeHead(200, { link: `<${next}>; rel="next"` }).end('{"items":[1]}')
        return true
      }
      await expect(api().list('/api/v1/x', 'items', 'a list', 10), next).rejects.toThrow(
        /must begin with a slash/,
      )
    }
    expect(hostile.seen).toEqual([])
  })
})

it('the content of an API request does not follow a redirect to another host', async () => {
  answerWith('POST', 307, { location: `http://${hostile.host}/webhooks` })
  const body = { name: 'deploy', webhookSecret: 'a secret of the receiver' }
  await expect(api().change('/api/v1/webhooks', 'the webhook', body, {})).rejects.toThrow(
    /must not get its content/,
  )
  expect(hostile.seen).toEqual([])
})

it('a redirect to a URL that is not http is refused at once', async () => {
  for (const location of ['file:///etc/passwd', 'ftp://127.0.0.1/x', 'javascript:1', 'data:,x']) {
    answerWith('GET', 307, { location })
    const before = registry.count('GET', /blobs/)
    await expect(pull(), location).rejects.toThrow(/which must be https:\/\//)
    // The first request gets the challenge.
    expect(registry.count('GET', /blobs/)).toBe(before + 2)
  }
})

describe('a registry with TLS', () => {
  it('loses no secret to a realm, a redirect or an upload URL without TLS', async () => {
    const reached: string[] = []
    let realm = ''
    let location: string | undefined
    const { certificate, key } = selfSigned('127.0.0.1')
    const secure = createServer({ cert: certificate, key }, (request, response) => {
      reached.push(String(request.headers.authorization ?? ''))
      if (location !== undefined) {
        response.writeHead(request.method === 'POST' ? 202 : 307, { location }).end()
      } else {
        response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}"` }).end()
      }
    })
    secure.listen(0, '127.0.0.1')
    await once(secure, 'listening')
    const { port } = secure.address() as AddressInfo
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0')
    const logins: Login[] = [LOGIN, { kind: 'identity-token', token: 'a secret' }]
    try {
      for (const login of [...logins, { kind: 'token', token: 'a secret' } as const]) {
        const address = { host: `127.0.0.1:${port}`, plainHttp: false }
        const one = new RemoteRepository(address, parseRepository('builds/www'), {
          login,
          actions: 'pull,push',
        })
        opened.push(one)
        location = undefined
        if (login.kind !== 'token') {
          for (const host of [hostile.host, `127.0.0.1:${port}`]) {
            realm = `http://${host}/token`
            await expect(one.readRange(DIGEST, 0, 3), realm).rejects.toThrow(
              /must be an https:\/\/ URL/,
            )
          }
        }
        location = `http://${hostile.host}/elsewhere`
        await expect(one.readRange(DIGEST, 0, 3)).rejects.toThrow(/has no TLS/)
        const put = one.putBlob(DIGEST, 'www.hvt', { size: CONTENT.length, open: () => CONTENT })
        await expect(put).rejects.toThrow(/has no TLS/)
      }
    } finally {
      vi.unstubAllEnvs()
      secure.closeAllConnections()
      secure.close()
    }
    expect(reached).toHaveLength(10)
    expect(hostile.seen).toEqual([])
  })
})

it('the secret for a realm does not follow a redirect of the realm', async () => {
  for (const status of [301, 302, 303, 307, 308]) {
    registry.interfere = ({ path }, response) => {
      if (path === '/token') {
        response.writeHead(status, { location: `http://${hostile.host}/token` }).end()
      } else {
        const realm = `Bearer realm="http://${registry.host}/token"`
        response.writeHead(401, { 'www-authenticate': realm }).end()
      }
      return true
    }
    await expect(pull()).rejects.toThrow()
    expect(hostile.seen).toEqual([])
  }
})

describe('a login that docker, oras or podman stored', () => {
  const SECRETS = {
    'a.example': 'one',
    'a.example:5000': 'two',
    '[::1]:5000': 'three',
    '127.0.0.1:5000': 'four',
  }
  /** Other hosts, also when they look like one of the above. */
  const OTHERS = [
    'b.example',
    'a.example:443',
    'a.example:80',
    'a.example:5001',
    'a.example.',
    'a.example.evil.example',
    'evil-a.example',
    'x.a.example',
    'a_example',
    '[::1]',
    '[::1]:5001',
    '[0:0:0:0:0:0:0:1]:5000',
    '127.0.0.1',
    '127.1:5000',
    'localhost:5000',
    '__proto__',
    'constructor',
    '',
  ]
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-logins-'))
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  const find = (host: string) =>
    findDockerLogin(host, 'builds/www', {
      DOCKER_CONFIG: folder,
      PATH: `${folder}:${process.env.PATH}`,
    })
  const store = (config: object) => writeFile(join(folder, 'config.json'), JSON.stringify(config))
  /** A credential helper that answers everything it is asked, and records it. */
  const makeHelper = async (name: string) => {
    const path = join(folder, `docker-credential-${name}`)
    const answer = `echo '{"Username":"orb","Secret":"of ${name}"}'`
    await writeFile(
      path,
      `#!/bin/sh\ncat >> '${folder}/asked'; echo >> '${folder}/asked'\n${answer}\n`,
    )
    await chmod(path, 0o755)
  }

  it('is for exactly its host and port', async () => {
    const auths = Object.entries(SECRETS).map(([host, secret]) => [
      host,
      { auth: Buffer.from(`orb:${secret}`).toString('base64') },
    ])
    await store({ auths: Object.fromEntries(auths) })
    for (const [host, password] of Object.entries(SECRETS)) {
      expect(await find(host)).toEqual({ kind: 'password', username: 'orb', password })
    }
    for (const host of OTHERS) expect(await find(host), host).toBeUndefined()
  })

  it('in a helper is asked for by exactly that host, and one helper never answers for another', async () => {
    await makeHelper('one')
    const hosts = Object.keys(SECRETS)
    await store({ credHelpers: Object.fromEntries(hosts.map((host) => [host, 'one'])) })
    for (const host of hosts) expect(await find(host)).toMatchObject({ password: 'of one' })
    for (const host of OTHERS) expect(await find(host), host).toBeUndefined()
    const asked = await readFile(join(folder, 'asked'), 'utf8')
    expect(asked.trim().split('\n')).toEqual(hosts)
    // The store for all other hosts gets the name that the user wrote.
    await makeHelper('store')
    await rm(join(folder, 'asked'))
    await store({ credHelpers: { 'a.example': 'one' }, credsStore: 'store' })
    expect(await find('a.example')).toMatchObject({ password: 'of one' })
    expect(await find('a.example:443')).toMatchObject({ password: 'of store' })
    expect(await readFile(join(folder, 'asked'), 'utf8')).toBe('a.example\na.example:443\n')
  })
})

describe('the host of a registry', () => {
  it('gets its login by another spelling of its address, and another name gets none', async () => {
    const { port } = new URL(`http://${registry.host}`)
    registry.put(CONTENT)
    const login = LOGIN
    // One registry, by another spelling of its address: the login stays with the origin.
    for (const host of [registry.host, `127.1:${port}`]) {
      const one = new RemoteRepository({ host, plainHttp: true }, parseRepository('builds/www'), {
        login,
        actions: 'pull',
      })
      opened.push(one)
      expect((await one.readRange(DIGEST, 0, 3)).length).toBe(4)
    }
    // A name for the same machine is another host.
    for (const other of [`localhost:${port}`, `[::ffff:127.0.0.1]:${port}`]) {
      const before = registry.seen.length
      answerWith('GET', 307, { location: `http://${other}/moved` })
      await pull().catch(() => {})
      const moved = registry.seen.slice(before).filter(({ path }) => path === '/moved')
      for (const { headers } of moved) expect(headers.authorization, other).toBeUndefined()
    }
  })
})
