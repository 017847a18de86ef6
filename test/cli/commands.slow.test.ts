import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newRepository, pushBlob } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { startProcess, stopProcess } from '../support/server-process.ts'
import { rookery } from './rookery.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_GC_INTERVAL_SECONDS: '3600' })
})

afterAll(() => registry.close())

describe('rookery', () => {
  it.each([
    [['gc', '--dry']],
    [['gc', 'everything']],
    [['gc', '--hold', 'long']],
    [['gc', '--hold', '1', '--release']],
    [['scrub', '--rate', '0']],
    [['scrub', '--older-than', '-1']],
    [['storage', 'copy', '--from', 'filesystem']],
    [['storage', 'copy', '--from', 's3', '--to', 's3']],
    [['serve', '--port', '80']],
    [['sweep']],
    [['storage', 'move']],
    [['backup', '--to', '--json']],
  ])('%j is refused in one line with a hint to its help, and does nothing', async (words) => {
    const ran = await rookery(registry, words)
    expect(ran).toMatchObject({ status: 2, stdout: '' })
    expect(ran.stderr).toMatch(
      /^rookery: [^\n]+\nRun "rookery (?:[a-z]+ ){0,2}--help" for usage\.\n$/,
    )
  })

  it.each([[['storage']], [[]]])('%j lists commands, and does nothing', async (words) => {
    const ran = await rookery(registry, words)
    expect(ran).toMatchObject({ status: 2, stdout: '' })
    expect(ran.stderr).toMatch(/^Usage: rookery .*<command> \[options\]\n/)
  })

  it.each([
    [['pussh'], 'unknown command "pussh", did you mean "push"?', '--help'],
    [['webhook', 'lst'], 'unknown command "webhook lst", did you mean "webhook list"?', 'webhook'],
    [['gc', '--dryrun'], 'unknown option "--dryrun", did you mean "--dry-run"?', 'gc'],
    [['gc', '--json=yes'], '--json takes no value', 'gc'],
    [['login-url', '--pasword=hunter2'], 'unknown option "--pasword"', 'login-url'],
  ])('%j is refused with the nearest right word', async (words, message, help) => {
    const { status, stderr } = await rookery(registry, words)
    expect(status).toBe(2)
    expect(stderr.split('\n')[0]).toBe(`rookery: ${message}`)
    expect(stderr.split('\n')[1]).toContain(help)
  })

  it('prints its version', async () => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8'))
    for (const word of ['--version', '-v']) {
      expect(await rookery(registry, [word])).toEqual({
        status: 0,
        stdout: `${version}\n`,
        stderr: '',
      })
    }
  })

  it('shows all commands on one screen', async () => {
    const { status, stdout } = await rookery(registry, ['--help'])
    expect(status).toBe(0)
    const lines = stdout.split('\n')
    expect(lines.length).toBeLessThanOrEqual(52)
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(80)
    const groups = lines.filter((line) => /^[A-Z].*:$/.test(line))
    expect(groups).toEqual([
      'Run:',
      'Build and push:',
      'Look and ask:',
      'Tags, hosts and events:',
      'Access:',
      'Operate:',
      'Options:',
    ])
  })

  it('shows the same help for help, --help and -h', async () => {
    const ways = [
      ['push', '--help'],
      ['push', '-h'],
      ['help', 'push'],
    ]
    const [first, ...others] = await Promise.all(ways.map((words) => rookery(registry, words)))
    for (const other of others) expect(other).toEqual(first)
    expect(first?.stdout).toMatch(/^Usage: rookery push \[options\] <DIR\|FILE> /)
    expect(await rookery(registry, ['help', 'webhook'])).toEqual(
      await rookery(registry, ['webhook', '--help']),
    )
  })

  it.each([[['gc']], [['scrub']], [['backup', '--to', 'backup']]])(
    '%j creates no registry in a folder without one',
    async (words) => {
      const folder = await mkdtemp(join(tmpdir(), 'rookery-wrong-'))
      const settings = { ROOKERY_DATA_DIR: join(folder, 'data') }
      const ran = await rookery({ settings }, words)
      expect(ran).toMatchObject({ status: 2, stdout: '' })
      expect(ran.stderr).toContain(`there is no registry in ${settings.ROOKERY_DATA_DIR}`)
      expect(await readdir(folder)).toEqual([])
      await rm(folder, { recursive: true })
    },
  )

  it.each([[['--help']], [['gc', '--help']], [['storage', 'copy', '-h']], [['help']]])(
    '%j prints help',
    async (words) => {
      const ran = await rookery(registry, words)
      expect(ran).toMatchObject({ status: 0, stderr: '' })
      expect(ran.stdout).toContain('Usage:')
    },
  )

  it('reports a missing or unreachable bucket in one line', async () => {
    const copy = ['storage', 'copy', '--from', 'filesystem', '--to', 's3']
    const without = await rookery(registry, copy)
    expect(without).toMatchObject({ status: 2, stdout: '' })
    expect(without.stderr).toBe('rookery: ROOKERY_S3_BUCKET must name the bucket\n')
    const settings = {
      ...registry.settings,
      ROOKERY_S3_BUCKET: 'some-bucket',
      ROOKERY_S3_ENDPOINT: 'http://127.0.0.1:1',
      ROOKERY_S3_TIMEOUT_SECONDS: '2',
      AWS_ACCESS_KEY_ID: 'nobody',
      AWS_SECRET_ACCESS_KEY: 'very-secret-key',
    }
    const unreachable = await rookery({ settings }, copy)
    expect(unreachable).toMatchObject({ status: 2, stdout: '' })
    const lines = unreachable.stderr.split('\n').filter((line) => line.startsWith('rookery: '))
    expect(lines).toHaveLength(1)
    expect(lines[0]).toContain('cannot write to the bucket some-bucket')
    expect(unreachable.stderr).not.toContain('very-secret-key')
  })
})

describe('rookery gc', () => {
  async function age(digest: string): Promise<void> {
    const client = new pg.Client(registry.databaseUrl)
    await client.connect()
    const statement = `update blobs set touched_at = now() - interval '2 days' where digest = $1`
    await client.query(statement, [digest])
    await client.end()
  }

  it('lists the blobs to delete, and then deletes them', async () => {
    const blob = await pushBlob(registry, newRepository())
    await age(blob.digest)
    const listed = await rookery(registry, ['gc', '--dry-run'])
    expect(listed.status).toBe(0)
    expect(listed.stdout).toContain(`DIGEST${' '.repeat(67)}BYTES\n${blob.digest}  ${blob.size}\n`)
    expect(listed.stdout).toContain('Would delete 1 blobs')
    const json = await rookery(registry, ['gc', '--dry-run', '--json'])
    expect(JSON.parse(json.stdout)).toMatchObject({ blobs: 1, bytes: blob.size })
    expect(await registry.storedObjects()).toHaveLength(1)
    const done = await rookery(registry, ['gc', '--json'])
    expect(done.status).toBe(0)
    expect(JSON.parse(done.stdout)).toMatchObject({ blobs: 1, deletions: 1, failures: 0 })
    expect(await registry.storedObjects()).toEqual([])
  })

  it('keeps the bytes while deletions are paused', async () => {
    const blob = await pushBlob(registry, newRepository())
    await age(blob.digest)
    const hold = await rookery(registry, ['gc', '--hold', '2'])
    expect(hold).toMatchObject({ status: 0, stderr: '' })
    const held = await rookery(registry, ['gc', '--json'])
    expect(JSON.parse(held.stdout)).toMatchObject({ blobs: 1, deletions: 0 })
    expect(await registry.storedObjects()).toHaveLength(1)
    const release = await rookery(registry, ['gc', '--release'])
    expect(release.stdout).toBe('Deletion pauses ended: 1\n')
    const done = await rookery(registry, ['gc', '--json'])
    expect(JSON.parse(done.stdout)).toMatchObject({ blobs: 0, deletions: 1 })
    expect(await registry.storedObjects()).toEqual([])
  })
})

it('commands work with and without a running server on the embedded Postgres', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-cli-'))
  const settings = { ROOKERY_DATA_DIR: join(folder, 'data') }
  try {
    const server = await startProcess(settings)
    const beside = await rookery({ settings }, ['gc', '--dry-run', '--json'])
    expect(beside).toMatchObject({ status: 0, stderr: '' })
    const answer = await fetch(`${server.url}/readyz`)
    expect(answer.status).toBe(200)
    expect(await stopProcess(server)).toBe(0)
    const alone = await rookery({ settings }, ['scrub', '--json'])
    expect(alone).toMatchObject({ status: 0, stderr: '' })
    expect(JSON.parse(alone.stdout)).toMatchObject({ blobs: 0, missing: 0, orphans: 0 })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
