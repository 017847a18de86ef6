import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newRepository, pushImageBlobs, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  basic,
  bearer,
  becomes,
  claimsOf,
  errorLine,
  errorLineFor,
  printed,
  printedFor,
  printedJson,
  pushStatus,
} from './operator.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

const mint = async (...words: string[]) => {
  const text = await printed(registry, 'token', 'mint', ...words)
  // Nothing but the token, for `TOKEN=$(rookery token mint …)`.
  expect(text).toMatch(/^eyJ[\w-]+\.[\w-]+\.[\w-]+\n$/)
  return text.trim()
}

describe('rookery token mint', () => {
  it('prints a token that pushes, as Bearer and as a password', async () => {
    const token = await mint('--repository', 'orb/www')
    expect(await pushStatus(registry, 'orb/www', bearer(token))).toBe(202)
    expect(await pushStatus(registry, 'orb/www', basic('token', token))).toBe(202)
    expect(await pushStatus(registry, 'orb/www', basic('whoever', token))).toBe(202)
    expect(await pushStatus(registry, 'orb/other', bearer(token))).toBe(401)
    const { sub, iat, exp, access, origin } = claimsOf(token)
    expect({ sub, seconds: exp - iat, access, origin }).toEqual({
      sub: 'operator',
      seconds: 900,
      access: [{ type: 'repository', name: 'orb/www', actions: ['pull', 'push'] }],
      origin: undefined,
    })
  })

  it('accepts patterns, actions, tags, a lifetime and a name', async () => {
    const repository = newRepository()
    const minted = await printedJson(
      registry,
      ...['token', 'mint', '--repository', 'conformance/*', '--repository', 'x', '--url'],
      ...['--action', 'push', '--tag', 'v*', '--ttl', '2h', '--subject', 'www-ci'],
    )
    expect(Object.keys(minted).sort()).toEqual([
      'access',
      'expiresAt',
      'id',
      'subject',
      'token',
      'url',
    ])
    expect(minted.url).toBe(`http://token:${minted.token}@${new URL(registry.url).host}`)
    const claims = claimsOf(minted.token)
    expect(claims).toMatchObject({ sub: 'www-ci', jti: minted.id, access: minted.access })
    expect(claims.exp - claims.iat).toBe(7200)
    expect(Date.parse(minted.expiresAt)).toBe(claims.exp * 1000)
    const manifest = await pushImageBlobs(registry, repository)
    const status = async (tag: string) =>
      (await putManifest(registry, repository, tag, manifest, bearer(minted.token))).status
    expect(await status('v2')).toBe(201)
    expect(await status('latest')).toBe(403)
    const url = await printed(registry, 'token', 'mint', '--repository', 'x', '--url')
    expect(url).toMatch(/^http:\/\/token:eyJ[\w.-]+@127\.0\.0\.1:\d{4,5}\n$/)
  })

  it('mints tokens for administration and for other networks', async () => {
    const admin = await mint('--admin', '--ttl', '60')
    const listed = () => fetch(`${registry.url}/api/v1/credentials`, { headers: bearer(admin) })
    expect((await listed()).status).toBe(200)
    const far = await mint('--admin', '--network', '10.0.0.0/8')
    expect(await pushStatus(registry, 'x', bearer(far))).toBe(401)
  })

  it.each([
    [[]],
    [['--repository', 'A']],
    [['--repository', 'a', '--action', 'write']],
    [['--repository', 'a', '--tag', '']],
    [['--repository', 'a', '--ttl', '25h']],
    [['--repository', 'a', '--ttl', '0']],
    [['--repository', 'a', '--ttl', '1.5h']],
    [['--repository', 'a', '--subject', '']],
    [['--repository', 'a', '--subject', 'admin']],
    [['--repository', 'a', '--network', '10.0.0.0/33']],
    [['--repository', 'a', '--credential', 'nobody']],
    [['--repository', 'a', '--credential', 'nobody', '--subject', 'x']],
    [
      [
        '--repository',
        Array.from({ length: 99 }, (_, n) => `builds/very-long-name-${n}`).join(','),
      ],
    ],
    [['--admin', '--repository', 'a']],
    [['builds/www']],
  ])('%j is refused in one line', async (words) => {
    await errorLine(registry, 'token', 'mint', ...words)
  })
})

describe('a token from a credential', () => {
  const from = (...words: string[]) => ['token', 'mint', '--credential', 'orb', ...words]

  beforeAll(async () => {
    const bounds = [
      '--repository',
      'orb/**,one/*',
      '--action',
      'pull,push,delete',
      '--tag',
      'v*,main',
    ]
    const where = ['--network', '127.0.0.0/8', '--expires', '30m']
    await printed(registry, 'credential', 'create', 'orb', ...bounds, ...where)
  })

  it('has the default rights of the credential, and ends with it', async () => {
    const { token, access, subject, networks } = await printedJson(
      registry,
      ...from('--ttl', '24h'),
    )
    const bounds = { actions: ['pull', 'push'], tags: ['v*', 'main'] }
    expect(access).toEqual([
      { type: 'repository', name: 'orb/**', ...bounds },
      { type: 'repository', name: 'one/*', ...bounds },
    ])
    expect({ subject, networks }).toEqual({ subject: 'orb', networks: ['127.0.0.0/8'] })
    const { exp, iat, origin } = claimsOf(token)
    expect(exp - iat).toBeLessThanOrEqual(1800)
    expect(origin).toMatch(/^credential:\d+$/)
  })

  it('has fewer rights on request', async () => {
    const less = ['--repository', 'orb/a/b,one/*', '--action', 'delete', '--tag', 'v1,main']
    const { access, networks } = await printedJson(
      registry,
      ...from(...less, '--network', '127.0.0.1'),
    )
    const bounds = { actions: ['delete'], tags: ['v1', 'main'] }
    expect(access).toEqual([
      { type: 'repository', name: 'orb/a/b', ...bounds },
      { type: 'repository', name: 'one/*', ...bounds },
    ])
    expect(networks).toEqual(['127.0.0.1'])
  })

  it.each([
    [['--repository', 'other'], 'repository other'],
    [['--repository', 'one/a/b'], 'repository one/a/b'],
    [['--repository', 'orb/a,orb/*'], 'repository orb/*'],
    [['--repository', '**'], 'repository **'],
    [['--action', 'admin'], 'action admin'],
    [['--tag', 'latest'], 'tag latest'],
    [['--tag', 'v1*'], 'tag v1*'],
    [['--network', '0.0.0.0/0'], 'network 0.0.0.0/0'],
    [['--network', '10.0.0.1'], 'network 10.0.0.1'],
    [['--admin'], '--admin'],
    [['--action', 'admin', '--tag', 'x', '--tag', 'v1'], 'action admin, tag x'],
  ])('%j exceeds its rights and is refused', async (words, what) => {
    const line = await errorLine(registry, ...from(...words))
    expect(line).toBe(`rookery: the credential orb does not have: ${what}`)
  })

  it('ends when the credential is revoked, and no other is minted', async () => {
    await printed(registry, 'credential', 'create', 'gone', '--repository', 'gone')
    const token = await mint('--credential', 'gone')
    expect(await pushStatus(registry, 'gone', bearer(token))).toBe(202)
    await printed(registry, 'credential', 'revoke', 'gone')
    await becomes(401, () => pushStatus(registry, 'gone', bearer(token)))
    expect(await errorLine(registry, 'token', 'mint', '--credential', 'gone')).toContain('revoked')
  })

  it('of an administrator has the requested rights', async () => {
    await printed(registry, 'credential', 'create', 'boss', '--admin')
    const boss = ['token', 'mint', '--credential', 'boss']
    await errorLine(registry, ...boss)
    const small = await printedJson(registry, ...boss, '--repository', 'x')
    expect(small.access).toEqual([{ type: 'repository', name: 'x', actions: ['pull', 'push'] }])
    expect(claimsOf(small.token).origin).toMatch(/^credential:\d+$/)
    const large = await printedJson(registry, ...boss, '--admin')
    expect(large.access).toEqual([{ type: 'registry', name: 'admin', actions: ['*'] }])
  })

  it('from a credential that only deletes needs --action', async () => {
    const bounds = ['--repository', 'x', '--action', 'delete']
    await printed(registry, 'credential', 'create', 'cleaner', ...bounds)
    await errorLine(registry, 'token', 'mint', '--credential', 'cleaner')
    await mint('--credential', 'cleaner', '--action', 'delete')
  })
})

describe('rookery token revoke', () => {
  it('revokes a token by its jti, and by itself from standard input', async () => {
    const minted = await printedJson(registry, 'token', 'mint', '--repository', 'x')
    const [second, third, kept] = await Promise.all([
      mint('--repository', 'x'),
      mint('--repository', 'x'),
      mint('--repository', 'x'),
    ])
    expect(await printedJson(registry, 'token', 'revoke', minted.id)).toEqual({
      revoked: minted.id,
    })
    for (const token of [second, third]) {
      const read = await printedFor(registry, `${token}\n`, 'token', 'revoke', '-')
      expect(read.status).toBe(0)
      expect(read.stdout).toContain(claimsOf(token).jti)
    }
    for (const token of [minted.token, second, third]) {
      await becomes(401, () => pushStatus(registry, 'x', bearer(token)))
    }
    expect(await pushStatus(registry, 'x', bearer(kept))).toBe(202)
  })

  it('refuses tokens of other registries and other text', async () => {
    const token = await mint('--repository', 'x')
    const forged = `${token.slice(0, token.lastIndexOf('.'))}.${'A'.repeat(86)}`
    expect(await errorLineFor(registry, forged, 'token', 'revoke', '-')).toContain(
      'not signed by this registry',
    )
    for (const text of ['x', token.slice(0, 40)]) {
      await errorLineFor(registry, text, 'token', 'revoke', '-')
    }
    for (const words of [[], ['x'], ['a', 'b']]) {
      await errorLine(registry, 'token', 'revoke', ...words)
    }
    const tooLong = await printedFor(registry, 'x'.repeat(100_000), 'token', 'revoke', '-')
    expect(tooLong).toEqual({ status: 2, stdout: '' })
  })
})
