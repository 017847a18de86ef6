import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, makeCredential, requestToken, sql } from '../auth/credentials-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import * as far from './builder.ts'
import { errorLine, printed, printedJson } from './operator.ts'
import { rookery } from './rookery.ts'

let registry: TestRegistry
let folder: string
let host: string

const URL_ = 'https://receiver.example/hook'

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_PUBLIC_URL: 'https://registry.example' })
  folder = await mkdtemp(join(tmpdir(), 'rookery-test-secrets-'))
  host = new URL(registry.url).host
})
afterAll(async () => {
  await registry.close()
  await rm(folder, { recursive: true, force: true })
})

async function fileOf(text: string): Promise<string> {
  const file = join(folder, `secret-${Math.random()}`)
  await writeFile(file, `${text}\n`)
  return file
}

const create = (name: string, ...more: string[]) => [
  'webhook',
  'create',
  name,
  URL_,
  '--repository',
  'builds/**',
  ...more,
]

describe('rookery webhook, on the machine of the registry,', () => {
  it('creates, shows, lists, changes and deletes webhooks', async () => {
    const authorization = await fileOf('Bearer letmein')
    const { secret, ...made } = await printedJson(
      registry,
      ...create('deploy', '--repository', 'a,b', '--tag', 'v*,live', '--type', 'image.tag.updated'),
      ...['--format', 'docker', '--signature', 'v1a', '--authorization-file', authorization],
      ...['--header', 'X-Team: a: b', '--description', 'For hosts.', '--max-age', '1h'],
      ...['--coalesce-tags', '--paused'],
    )
    expect(secret).toMatch(/^whsec_/)
    expect(made).toMatchObject({
      name: 'deploy',
      url: URL_,
      repositories: ['builds/**', 'a', 'b'],
      tags: ['v*', 'live'],
      types: ['image.tag.updated'],
      format: 'docker',
      authentication: { signatures: ['v1a'], authorization: true },
      headers: { 'X-Team': 'a: b' },
      description: 'For hosts.',
      maxAgeSeconds: 3600,
      coalesceTags: true,
      state: 'paused',
      owner: 'operator',
    })
    expect(await printedJson(registry, 'webhook', 'show', 'deploy')).toEqual(made)
    expect(await printedJson(registry, 'webhook', 'list')).toEqual({ webhooks: [made] })
    const cleared = ['--clear', 'tag,header,authorization', '--clear', 'max-age', '--resume']
    const changed = await printedJson(registry, 'webhook', 'update', 'deploy', ...cleared)
    expect(changed).toMatchObject({
      tags: null,
      headers: {},
      maxAgeSeconds: null,
      description: 'For hosts.',
      state: 'active',
      authentication: { signatures: ['v1a'], authorization: false },
    })
    expect(await printedJson(registry, 'webhook', 'delete', 'deploy')).toEqual({
      deleted: 'deploy',
    })
    expect(await printed(registry, 'webhook', 'list')).toBe('There are none.\n')
    const entry = await printedJson(registry, 'audit', '--actor', 'operator', '--limit', '1')
    expect(entry).toMatchObject({ action: 'remove-webhook', detail: 'deploy' })
  })

  it('prints the settings of a webhook, and its secret once', async () => {
    const made = await printed(registry, ...create('words', '--tag', 'live', '--max-age', '2d'))
    expect(made).toMatch(/^webhook +words\nURL +https:\/\/receiver.example\/hook\n/)
    expect(made).toContain('in builds/**, tags live\n')
    expect(made).toContain('CloudEvents; no events older than 2d\n')
    expect(made).toMatch(/\nsecret +whsec_\S+\n\nThe secret is not shown again\. .*\n$/)
    const shown = await printed(registry, 'webhook', 'show', 'words')
    expect(shown).not.toContain('whsec_')
    expect(shown).toContain('no delivery yet; 0 pending')
    const rotated = await printed(registry, 'webhook', 'rotate-secret', 'words', '--overlap', '2h')
    expect(rotated).toMatch(/also with earlier secrets until 20\S+Z\n/)
    expect(await printed(registry, 'webhook', 'list')).toMatch(
      /^NAME +STATE +HEALTH +URL.*\nwords +active +new +https:\/\/receiver.example\/hook +builds/,
    )
    const paused = await printed(registry, 'webhook', 'update', 'words', '--pause')
    expect(paused).toContain('sent after rookery webhook update words --resume')
  })

  it('sends a body of its own, and shows it', async () => {
    const only = ['--type', 'image.tag.updated']
    const body = { event_type: 'image', client_payload: { tag: '{{tag}}' } }
    const given = ['--body', JSON.stringify(body)]
    const made = await printedJson(registry, ...create('bodied', ...only, ...given))
    expect(made.body).toEqual(body)
    const shown = await printed(registry, 'webhook', 'show', 'bodied')
    expect(shown).toContain(
      'requests     {"event_type":"image","client_payload":{"tag":"{{tag}}"}}\n',
    )
    const tested = await errorLine(registry, 'webhook', 'test', 'bodied')
    expect(tested).toContain('gets no test')
    const changed = await printedJson(registry, 'webhook', 'update', 'bodied', '--body', '{}')
    expect(changed.body).toEqual({})
    const cleared = await printedJson(registry, 'webhook', 'update', 'bodied', '--clear', 'body')
    expect(cleared.body).toBeNull()
  })

  it.each([
    ['gone', 'it answered 410 Gone (so it said)'],
    ['failing', 'every attempt failed for days (so it said)'],
    ['owner', 'that created it is revoked, expired or removed (so it said)'],
  ])('shows why a webhook is disabled, and its health: %s', async (reason, words) => {
    const name = `is-${reason}`
    await printedJson(registry, ...create(name))
    await sql(
      registry,
      `with disabled as (
         update webhooks
            set state = 'disabled',
                disabled_reason = $2
          where name = $1
         returning id
       )
       insert into webhook_health (webhook_id, failures, failing_since, open_until)
       select id, 7, '2026-05-20T18:00:00Z', '2026-05-20T19:00:00Z'
         from disabled`,
      [name, `${reason}: so it said`],
    )
    const shown = await printed(registry, 'webhook', 'show', name)
    expect(shown).toContain('disabled, because ')
    expect(shown).toContain(words)
    expect(shown).toContain(`rookery webhook update ${name} --resume enables it again`)
    expect(shown).toContain('failed 7 times since 2026-05-20T18:00:00Z')
  })

  it('reads secrets from files, and repeats none', async () => {
    const given = `whsec_${Buffer.alloc(24, 3).toString('base64')}`
    const made = await printedJson(
      registry,
      ...create('filed', '--secret-file', await fileOf(given)),
    )
    expect(made.secret).toBe(given)
    const wrong = await fileOf('hunter2')
    const line = await errorLine(registry, ...create('other', '--secret-file', wrong))
    expect(line).toContain('whsec_')
    expect(line).not.toContain('hunter2')
    expect(await errorLine(registry, ...create('other', '--secret-file', '/nowhere'))).toContain(
      'cannot be read',
    )
  })

  it.each([
    [['webhook', 'create', 'x', URL_], '--repository <GLOB> is required'],
    [['webhook', 'create', 'x', '--repository', 'a'], 'missing required argument "URL"'],
    [create('x', '--max-age', 'soon'), '--max-age must be a duration'],
    [create('x', '--header', 'X-Team'), "--header must be like 'NAME: VALUE'"],
    [create('x', '--header', 'X-A: 1', '--header', 'x-a: 2'), '--header names x-a twice'],
    [create('x', '--body', 'tag={{tag}}'), '--body must be JSON, such as'],
    [create('x', '--body', '["{{tag}}"]'), 'body must be a JSON object'],
    [create('x', '--body', '{"a":"{{sha}}"}'), 'unknown variable "{{sha}}"'],
    [create('x', '--body', '{"a":"{{tag}}"}'), 'restrict types to image.tag.updated'],
    [create('x', '--format', 'docker', '--body', '{}'), 'format must not be docker'],
    [['webhook', 'update', 'x', '--pause', '--resume'], 'exclude each other'],
    [['webhook', 'update', 'x', '--clear', 'url'], '--clear must be tag, '],
    [['webhook', 'rotate-secret', 'x', '--now', '--overlap', '1h'], 'exclude each other'],
    [['webhook', 'redeliver', 'x'], 'give either EVENT or --since'],
    [['webhook', 'redeliver', 'x', 'event', '--since', '1h'], 'give either EVENT or --since'],
    [['webhook', 'redeliver', 'x', 'event', '--failed'], 'need --since'],
    [['webhook', 'redeliver', 'x', '--since', 'yesterday'], '--since must be a duration'],
    [['webhook', 'deliveries', 'x', '--state', 'lost'], '--state must be pending'],
    [['webhook', 'deliveries', 'x', '--limit', '0'], '--limit must be'],
    [create('Upper'), 'a name must consist of lower-case letters'],
    [['webhook', 'show', 'nothing'], 'there is no webhook nothing'],
    [['webhook', 'update', 'nothing', '--pause'], 'there is no webhook nothing'],
    [['webhook', 'delete', 'nothing'], 'there is no webhook nothing'],
    [['webhook', 'test', 'nothing'], 'there is no webhook nothing'],
    [['webhook', 'deliveries', 'nothing'], 'there is no webhook nothing'],
    [['webhook', 'redeliver', 'nothing', '--since', '1h'], 'there is no webhook nothing'],
  ])('refuses %s in one line', async (words, message) => {
    expect(await errorLine(registry, ...words)).toContain(message)
  })

  it('lists its commands', async () => {
    const { stdout } = await rookery(registry, ['webhook', '--help'])
    for (const word of ['create', 'list', 'show', 'update', 'delete', 'test', 'deliveries']) {
      expect(stdout).toMatch(new RegExp(`^  ${word} +[A-Z]`, 'm'))
    }
  })
})

describe('rookery webhook --registry, through the API,', () => {
  it('does the same, within the rights of the login', async () => {
    const { name, secret } = await makeCredential(registry, {
      repositories: ['team/**'],
      actions: ['admin', 'pull'],
    })
    const scope = 'repository:team/a:admin,pull'
    const token = await requestToken(registry, basic(name, secret), scope)
    const login = { ROOKERY_TOKEN: token }
    const there = ['--registry', host]
    const words = ['webhook', 'create', 'mine', URL_, ...there, '--repository', 'team/a']
    const made = await far.printedJson([...words, '--tag', 'v*'], login)
    expect(made).toMatchObject({
      name: 'mine',
      owner: name,
      secret: expect.stringMatching(/^whsec_/),
    })
    const { secret: _, ...webhook } = made
    expect(await far.printedJson(['webhook', 'list', ...there], login)).toEqual({
      webhooks: [webhook],
    })
    expect(await far.printedJson(['webhook', 'show', 'mine', ...there], login)).toEqual(webhook)
    const update = ['webhook', 'update', 'mine', ...there, '--clear', 'tag', '--pause']
    expect(await far.printedJson(update, login)).toMatchObject({ tags: null, state: 'paused' })
    const rotate = ['webhook', 'rotate-secret', 'mine', ...there, '--now']
    expect((await far.printedJson(rotate, login)).authentication.earlierUntil).toEqual([])
    expect(await far.errorLine(['webhook', 'test', 'mine', ...there], login)).toContain('is paused')
    const deliveries = ['webhook', 'deliveries', 'mine', ...there]
    expect(await far.builderOutput(deliveries, login)).toBe('There are none.\n')
    const beyond = ['webhook', 'create', 'more', URL_, ...there, '--repository', 'team/b']
    expect(await far.errorLine(beyond, login)).toContain('may not admin all of team/b')
    const again = await far.errorLine(words, login)
    expect(again).toContain('there is a webhook named mine')
    expect(await far.builderOutput(['webhook', 'delete', 'mine', ...there], login)).toBe(
      'Deleted webhook mine.\n',
    )
    const gone = await far.errorLine(['webhook', 'show', 'mine', ...there], login)
    expect(gone).toContain('there is no webhook mine')
    expect(await far.errorLine(['webhook', 'list', ...there])).toMatch(/log in/)
  })
})
