import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  basic,
  bearer,
  errorLine,
  printed,
  printedFor,
  printedJson,
  pushStatus,
} from './operator.ts'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

describe('rookery repository', () => {
  it('sets visibility and immutable tags, also before the first push', async () => {
    const repository = newRepository()
    const set = ['repository', 'set', repository]
    const immutable = ['--immutable', 'v*', '--immutable', 'r1,r2']
    const settings = await printedJson(registry, ...set, '--visibility', 'private', ...immutable)
    expect(settings).toMatchObject({ name: repository, visibility: 'private' })
    expect(settings.immutableTags).toEqual(['v*', 'r1', 'r2'])
    expect(await printedJson(registry, 'repository', 'show', repository)).toEqual(settings)
    await pushImage(registry, repository, 'v1')
    const pull = () => registry.anonymous(`/v2/${repository}/manifests/v1`)
    expect((await pull()).status).toBe(401)
    await expect(pushImage(registry, repository, 'v1')).rejects.toThrow()

    const text = await printed(registry, ...set, '--visibility', 'public')
    expect(text).toContain('visibility      public\nimmutable tags  v*,r1,r2\n')
    expect((await pull()).status).toBe(200)
    expect((await printedJson(registry, ...set, '--mutable')).immutableTags).toEqual([])
    await pushImage(registry, repository, 'v1')
  })

  it('deletes a repository with its content, and only with --yes where nobody can answer', async () => {
    const repository = newRepository()
    const pushed = await pushImage(registry, repository, 'v1')
    const words = ['repository', 'delete', repository]
    expect(await errorLine(registry, ...words)).toContain('give --yes to delete without it')
    expect(await errorLine(registry, 'repository', 'delete', 'absent/one', '--yes')).toMatch(
      /repository name not known to registry/,
    )
    const manifest = `/v2/${repository}/manifests/${pushed.digest}`
    expect((await registry.request(manifest)).status).toBe(200)
    await printed(registry, 'repository', 'set', repository, '--immutable', 'v*')
    expect(await errorLine(registry, ...words, '--yes')).toContain('tag v1 is immutable')
    await printed(registry, 'repository', 'set', repository, '--mutable')
    expect(await printed(registry, ...words, '--yes')).toBe(
      `Deleted the repository ${repository} with its content.\n`,
    )
    expect((await registry.request(manifest)).status).toBe(404)
    expect(await printed(registry, 'repository', 'list')).not.toContain(repository)
    await pushImage(registry, repository, 'v1')
    expect(await printedJson(registry, ...words, '--yes')).toEqual({ deleted: repository })
  })

  it('lists all repositories, over more than a page', async () => {
    const client = new pg.Client(registry.databaseUrl)
    await client.connect()
    await client.query(
      `insert into repositories (name, visibility, immutable_tags)
       select 'many/r' || lpad(i::text, 4, '0'), 'private', '{v*}' from generate_series(1, 1200) i`,
    )
    await client.end()
    const { repositories } = await printedJson(registry, 'repository', 'list')
    const names = repositories.map(({ name }: { name: string }) => name)
    expect(names.filter((name: string) => name.startsWith('many/'))).toHaveLength(1200)
    expect(names).toEqual([...new Set(names)].sort())
    const table = await printed(registry, 'repository', 'list')
    expect(table).toMatch(/^many\/r0042 +private +v\* +optional +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/m)
  })

  it.each([
    [['show']],
    [['show', 'A']],
    [['show', 'no/such']],
    [['set', 'a']],
    [['set', 'A', '--mutable']],
    [['set', 'a', '--visibility', 'hidden']],
    [['set', 'a', '--immutable', 'v/1']],
    [['set', 'a', '--immutable', 'v1', '--mutable']],
    [['set', 'a', '--immutable']],
    [['set', 'a', '--provenance', 'perhaps']],
    [['list', 'a']],
  ])('%j is refused in one line', async (words) => {
    await errorLine(registry, 'repository', ...words)
  })
})

describe('rookery audit', () => {
  type Entry = { id: number; at: string; action: string; decision: string } & Record<
    string,
    unknown
  >

  const entries = async (...words: string[]): Promise<Entry[]> => {
    const text = await printed(registry, 'audit', '--json', ...words)
    return text.trim() === ''
      ? []
      : text
          .trim()
          .split('\n')
          .map((line) => JSON.parse(line))
  }

  it('lists changes on the command line and over HTTP, without secrets', async () => {
    const repository = newRepository()
    const only = ['--repository', repository]
    const made = await printedJson(registry, 'credential', 'create', 'orb', ...only, '--tag', 'v*')
    const minted = await printedJson(
      registry,
      'token',
      'mint',
      '--credential',
      'orb',
      '--tag',
      'v1',
    )
    const own = await printedJson(registry, 'token', 'mint', ...only, '--action', 'pull')
    expect(await pushStatus(registry, repository, bearer(minted.token))).toBe(202)
    expect(await pushStatus(registry, 'elsewhere', basic('orb', made.secret))).toBe(403)
    await printed(registry, 'repository', 'set', repository, '--immutable', 'v*')
    expect((await printedFor(registry, minted.token, 'token', 'revoke', '-')).status).toBe(0)
    await printed(registry, 'key', 'rotate')
    await printed(registry, 'credential', 'revoke', 'orb')
    await pushImage(registry, repository, 'v1')

    const done = await entries('--since', '1h')
    expect(done.map(({ id }) => id)).toEqual(done.map(({ id }) => id).sort((a, b) => b - a))
    const operator = { actor: 'operator', decision: 'allowed', address: null, requestId: null }
    const recent = await entries('--actor', 'operator', '--limit', '7')
    expect(recent.map(({ action }) => action)).toEqual([
      'revoke-credential',
      'rotate-keys',
      'revoke-token',
      'change-repository',
      'mint',
      'mint',
      'create-credential',
    ])
    for (const entry of recent) expect(entry).toMatchObject(operator)
    const [second, first] = recent.filter(({ action }) => action === 'mint')
    expect(first).toMatchObject({ tokenId: minted.id, origin: expect.stringMatching(/^cred/) })
    expect(first?.detail).toContain(`repository:${repository}:pull,push tag v1`)
    expect(second).toMatchObject({ tokenId: own.id, origin: null })
    const pushed = await entries('--repository', repository, '--action', 'push')
    expect(pushed).toMatchObject([{ actor: 'admin', tags: ['v1'], address: '127.0.0.1' }])

    const everything = JSON.stringify(done) + (await printed(registry, 'audit'))
    for (const secret of [made.secret, minted.token, own.token, registry.password]) {
      expect(everything).not.toContain(secret)
      expect(everything).not.toContain(secret.split('.').at(-1))
    }
    expect(everything).not.toMatch(/rky_|eyJ/)
  })

  it('shows refusals in a table without control characters', async () => {
    const client = new pg.Client(registry.databaseUrl)
    await client.connect()
    await client.query(
      `insert into audit (action, decision, actor, repository, tags, digest, address, detail)
       values ('push', 'refused', $1, 'nasty', '{a,b}', 'sha256:1', '::1', $2)`,
      ['\u001b[2Jme\u202e', 'two\nlines\u0007\u009b'],
    )
    await client.end()
    const text = await printed(registry, 'audit', '--decision', 'refused', '--repository', 'nasty')
    expect(text).toMatch(
      /^TIME +DECISION +ACTION +ACTOR +OBJECT +ADDRESS +ORIGIN +TOKEN +DETAIL\n\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ {2}refused {3}push {4}\uFFFD\[2Jme\uFFFD {2}nasty:a:b@sha256:1 {2}::1 {6}- {7}- {6}two\uFFFDlines\uFFFD\uFFFD\n$/,
    )
    const [entry] = await entries('--repository', 'nasty')
    expect(entry).toMatchObject({ detail: 'two\nlines\u0007\u009b' })
  })

  it('filters by time and lists up to the limit, over more than a page', async () => {
    const client = new pg.Client(registry.databaseUrl)
    await client.connect()
    await client.query(
      `insert into audit (at, action, decision, actor)
       select timestamptz '2001-01-01' + make_interval(secs => i), 'old', 'allowed', 'many'
         from generate_series(1, 1300) i`,
    )
    await client.end()
    expect(await entries('--actor', 'many')).toHaveLength(100)
    const all = await entries('--actor', 'many', '--limit', '10000')
    expect(all).toHaveLength(1300)
    expect(new Set(all.map(({ id }) => id)).size).toBe(1300)
    expect(await entries('--actor', 'many', '--limit', '1001')).toHaveLength(1001)
    expect(await entries('--actor', 'many', '--since', '30d')).toEqual([])
    expect(await printed(registry, 'audit', '--actor', 'many', '--since', '30d')).toBe(
      'There are none.\n',
    )
    expect(await entries('--actor', 'many', '--since', '2001-01-01T00:21:31Z')).toHaveLength(10)
    expect(await entries('--actor', 'many', '--since', '2001-01-01')).toHaveLength(100)
  })

  it('ends without an error when its reader ends', async () => {
    const env = { ...process.env, ...registry.settings }
    const words = [MAIN, 'audit', '--limit', '10000', '--json']
    const child = spawn(process.execPath, words, { env })
    const closed = once(child, 'close')
    let complaints = ''
    child.stderr.on('data', (chunk) => {
      complaints += chunk
    })
    child.stdout.destroy()
    expect(await closed).toEqual([0, null])
    expect(complaints).toBe('')
  })

  it.each([
    [['--limit', '0']],
    [['--limit', '10001']],
    [['--limit', '1e3']],
    [['--decision', 'maybe']],
    [['--since', 'yesterday']],
    [['--since', '2001-01-01T00:00:00']],
    [['--repository', 'A']],
    [['orb']],
  ])('%j is refused in one line', async (words) => {
    await errorLine(registry, 'audit', ...words)
  })
})
