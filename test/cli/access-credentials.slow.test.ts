import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newRepository, pushImageBlobs, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { startProcess, stopProcess } from '../support/server-process.ts'
import {
  basic,
  bearer,
  becomes,
  errorLine,
  printed,
  printedJson,
  pushStatus,
  tokenFor,
} from './operator.ts'
import { rookery } from './rookery.ts'

const SECRET = /^rky_[\w-]{43}_[0-9a-f]{8}$/

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

describe('rookery credential', () => {
  it('creates a credential that can push at once, by password and by token, until it is revoked', async () => {
    const { secret, url, ...credential } = await printedJson(
      registry,
      ...['credential', 'create', 'orb-1', '--repository', 'orb/**'],
    )
    expect(secret).toMatch(SECRET)
    expect(url).toBe(`http://orb-1:${secret}@${new URL(registry.url).host}`)
    expect(credential).toMatchObject({ name: 'orb-1', kind: 'builder', state: 'valid' })
    expect(credential).toMatchObject({ actions: ['pull', 'push'], repositories: ['orb/**'] })
    const password = basic('orb-1', secret)
    expect(await pushStatus(registry, 'orb/www', password)).toBe(202)
    expect(await pushStatus(registry, 'other/www', password)).toBe(403)
    const token = bearer(await tokenFor(registry, 'repository:orb/www:pull,push', password))
    expect(await pushStatus(registry, 'orb/www', token)).toBe(202)

    expect(await printedJson(registry, 'credential', 'revoke', 'orb-1')).toEqual({
      revoked: 'orb-1',
    })
    await becomes(401, () => pushStatus(registry, 'orb/www', password))
    await becomes(401, () => pushStatus(registry, 'orb/www', token))
    expect(
      await errorLine(registry, 'credential', 'create', 'orb-1', '--repository', 'a'),
    ).toContain('a name is used once')
  })

  it('prints the password once, with logins for the public URL', async () => {
    const named = await startRegistry({ ROOKERY_PUBLIC_URL: 'https://registry.example.org' })
    const words = ['credential', 'create', 'orb-2', '--repository', 'orb/**', '--expires', '30d']
    const text = await printed(named, ...words)
    await named.close()
    const [secret = ''] = /rky_\S+?(?=\n)/.exec(text) ?? []
    expect(secret).toMatch(SECRET)
    expect(text).toContain('not shown again')
    expect(text).toContain(`https://orb-2:${secret}@registry.example.org\n`)
    expect(text).toContain(
      `printf '%s' '${secret}' | oras login -u 'orb-2' --password-stdin 'registry.example.org'\n`,
    )
    expect(text).toContain(
      `printf '%s' 'user = "orb-2:${secret}"' | curl -sS --fail-with-body -K - 'https://registry.example.org/v2/'\n`,
    )
    const until = /until (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\./.exec(text)?.[1] ?? ''
    const days = (Date.parse(until) - Date.now()) / 86_400_000
    expect(days).toBeGreaterThan(29.9)
    expect(days).toBeLessThan(30.1)
    expect(await printed(registry, 'credential', 'list')).not.toContain('rky_')
  })

  it('restricts the tags that may be set', async () => {
    const repository = newRepository()
    const bounds = ['--repository', repository, '--tag', 'v*', '--tag', 'latest']
    const { secret } = await printedJson(registry, 'credential', 'create', 'tagger', ...bounds)
    const manifest = await pushImageBlobs(registry, repository)
    const status = async (tag: string) =>
      (await putManifest(registry, repository, tag, manifest, basic('tagger', secret))).status
    expect(await status('v1')).toBe(201)
    expect(await status('latest')).toBe(201)
    expect(await status('main')).toBe(403)
  })

  it('lets Prometheus read the metrics, by password and by token, and nothing else', async () => {
    const made = await printedJson(registry, 'credential', 'create', 'prometheus', '--metrics')
    expect(made).toMatchObject({ kind: 'metrics', repositories: [], actions: [], tags: null })
    const password = basic('prometheus', made.secret)
    const token = bearer(await tokenFor(registry, 'registry:metrics:*', password))
    const builder = await printedJson(registry, 'credential', 'create', 'm', '--repository', 'm')
    for (const headers of [password, token]) {
      const metrics = await fetch(`${registry.url}/metrics`, { headers })
      expect(metrics.status).toBe(200)
      expect(await metrics.text()).toContain('rookery_build_info')
      for (const path of ['/api/v1/credentials', '/api/v1/audit']) {
        expect((await fetch(registry.url + path, { headers })).status).toBe(403)
      }
    }
    expect(await pushStatus(registry, 'm/n', password)).toBe(403)
    const refused = await fetch(`${registry.url}/metrics`, { headers: basic('m', builder.secret) })
    expect(refused.status).toBe(403)
    expect(await refused.text()).toContain('rookery credential create NAME --metrics')
    expect(await printed(registry, 'credential', 'list')).toMatch(
      /^prometheus +valid +metrics +none +any +any +never/m,
    )
  })

  it('restricts the network', async () => {
    const far = ['--repository', 'far', '--network', '10.0.0.0/8,fd00::/8']
    const { secret } = await printedJson(registry, 'credential', 'create', 'far', ...far)
    expect(await pushStatus(registry, 'far', basic('far', secret))).toBe(401)
  })

  it('creates administrators, and lists all credentials with their rights', async () => {
    const { secret } = await printedJson(registry, 'credential', 'create', 'boss', '--admin')
    const answer = await fetch(`${registry.url}/api/v1/credentials`, {
      headers: basic('boss', secret),
    })
    expect(answer.status).toBe(200)
    const listed = ['--repository', 'a/*', '--repository', 'b', '--action', 'delete,pull']
    const time = '2035-01-31T12:00:00+02:00'
    await printedJson(registry, 'credential', 'create', 'listed', ...listed, '--expires', time)
    const table = await printed(registry, 'credential', 'list')
    expect(table).toMatch(
      /^listed +valid +pull,delete +a\/\*,b +any +any +2035-01-31T10:00:00Z +never$/m,
    )
    expect(table).toMatch(/^boss +valid +everything +all +any +any +never +\d{4}-\S+Z$/m)
    const { credentials } = await printedJson(registry, 'credential', 'list')
    const found = credentials.find(({ name }: { name: string }) => name === 'listed')
    expect(found).toMatchObject({ actions: ['pull', 'delete'], createdBy: 'operator', tags: null })
  })

  it.each([
    [['create']],
    [['create', 'one', 'two', '--repository', 'a']],
    [['create', 'one']],
    [['create', 'One', '--repository', 'a']],
    [['create', 'admin', '--admin']],
    [['create', 'one', '--repository', 'A']],
    [['create', 'one', '--repository', '']],
    [['create', 'one', '--repository', 'a', '--action', 'write']],
    [['create', 'one', '--repository', 'a', '--tag', 'v/1']],
    [['create', 'one', '--repository', 'a', '--network', 'everywhere']],
    [['create', 'one', '--repository', 'a', '--expires', '2020-01-01']],
    [['create', 'one', '--repository', 'a', '--expires', '2030-02-31']],
    [['create', 'one', '--repository', 'a', '--expires', '2030-01-31T12:00:00']],
    [['create', 'one', '--repository', 'a', '--expires', 'soon']],
    [['create', 'one', '--repository', 'a', '--expires', '0d']],
    [['create', 'one', '--repository', 'a', '--expires', '--json']],
    [['create', 'one', '--admin', '--action', 'pull']],
    [['create', 'one', '--metrics', '--repository', 'a']],
    [['create', 'one', '--metrics', '--admin']],
    [['revoke']],
    [['revoke', 'nobody']],
    [['list', 'everything']],
  ])('%j is refused in one line, and changes nothing', async (words) => {
    expect(await errorLine(registry, 'credential', ...words)).not.toContain('rky_')
  })

  it('lists its commands, and no others', async () => {
    const parent = await rookery(registry, ['credential'])
    expect(parent).toMatchObject({ status: 2, stdout: '' })
    expect(parent.stderr).toMatch(/^ {2}revoke +Revoke a credential/m)
    expect(parent.stderr).not.toContain('mint')
  })
})

it('commands change rights with and without a running server on the embedded Postgres', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-access-'))
  const settings = { ROOKERY_DATA_DIR: join(folder, 'data'), ROOKERY_LISTEN: '0.0.0.0:0' }
  try {
    // In a wrong folder, no second registry is created.
    expect(await errorLine({ settings }, 'token', 'mint', '--repository', 'a')).toContain(
      `there is no registry in ${settings.ROOKERY_DATA_DIR}`,
    )
    expect(await readdir(folder)).toEqual([])
    const server = await startProcess(settings)
    const url = server.url.replace('0.0.0.0', '127.0.0.1')
    const make = ['--repository', 'a', '--action', 'push']
    const { secret, url: handedOver } = await printedJson(
      { settings },
      ...['credential', 'create', 'one', ...make],
    )
    expect(handedOver).toBe(`http://one:${secret}@${new URL(url).host}`)
    expect(await pushStatus({ url }, 'a', basic('one', secret))).toBe(202)
    const token = (await printed({ settings }, 'token', 'mint', ...make)).trim()
    expect(await pushStatus({ url }, 'a', bearer(token))).toBe(202)
    await printed({ settings }, 'credential', 'revoke', 'one')
    await becomes(401, () => pushStatus({ url }, 'a', basic('one', secret)))
    expect(await stopProcess(server)).toBe(0)

    await printed({ settings }, 'repository', 'set', 'b', '--visibility', 'private')
    const again = await startProcess(settings)
    const reached = { url: again.url.replace('0.0.0.0', '127.0.0.1') }
    expect(await pushStatus(reached, 'a', bearer(token))).toBe(202)
    expect(await pushStatus(reached, 'a', basic('one', secret))).toBe(401)
    expect(await stopProcess(again)).toBe(0)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}, 120_000)
