import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startIssuer, type TestIssuer } from '../auth/issuer.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { errorLine, printed, printedFor, printedJson } from './operator.ts'
import { rookery } from './rookery.ts'

let registry: TestRegistry
let issuer: TestIssuer

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_OIDC_ALLOW_NETWORKS: '127.0.0.0/8' })
  issuer = await startIssuer()
})

afterAll(async () => {
  await issuer.close()
  await registry.close()
})

const create = (name: string, ...more: string[]) => [
  ...['policy', 'create', name, '--issuer', issuer.url, '--audience', 'https://registry.example'],
  ...['--condition', 'repository=octo/kernel', '--repository', 'builds/octo', ...more],
]

describe('rookery policy', () => {
  it('creates a trust policy, lists it and removes it', async () => {
    const conditions = [
      ...['--condition', 'ref=refs/heads/main', '--condition', 'ref=refs/tags/v*'],
      ...['--condition', 'sub=repo:octo/kernel:**', '--condition', '/kubernetes.io/pod=a=b,c'],
    ]
    const more = ['--action', 'push', '--tag', 'v*,main', '--ttl', '10m']
    const policy = await printedJson(registry, ...create('kernels', ...conditions, ...more))
    expect(policy).toMatchObject({
      name: 'kernels',
      issuer: issuer.url,
      conditions: {
        repository: ['octo/kernel'],
        ref: ['refs/heads/main', 'refs/tags/v*'],
        sub: ['repo:octo/kernel:**'],
        '/kubernetes.io/pod': ['a=b,c'],
      },
      repositories: ['builds/octo'],
      actions: ['push'],
      tags: ['v*', 'main'],
      tokenSeconds: 600,
      createdBy: 'operator',
    })
    expect(await printedJson(registry, 'policy', 'list')).toEqual({ policies: [policy] })
    const table = await printed(registry, 'policy', 'list')
    expect(table).toMatch(/^NAME +ISSUER/)
    expect(table).toContain('kernels')
    expect(await printedJson(registry, 'policy', 'remove', 'kernels')).toEqual({
      removed: 'kernels',
    })
    expect(await printed(registry, 'policy', 'list')).toBe('There are none.\n')
    const changes = await printedJson(registry, 'audit', '--actor', 'operator', '--limit', '1')
    expect(changes).toMatchObject({ action: 'remove-policy', detail: 'kernels' })
  })

  it('prints the created policy; its default actions are pull and push', async () => {
    const text = await printed(registry, ...create('in-words'))
    expect(text).toMatch(/^policy {10}in-words\n/)
    expect(text).toContain(`\nissuer          ${issuer.url}\n`)
    expect(text).toContain('\nconditions      repository=octo/kernel\n')
    expect(text).toContain('\nactions         pull, push\nrepositories    builds/octo\n')
    expect(text).toContain('\ntoken lifetime  15m\n')
    expect(await printed(registry, 'policy', 'remove', 'in-words')).toContain('within seconds')
  })

  it('reports whether a token matches and which checks fail, also by its exit status', async () => {
    await printed(registry, ...create('first'))
    await printed(registry, ...create('second', '--condition', 'ref=refs/heads/release'))
    const right = await issuer.token()
    const { stdout: text } = await printedFor(registry, right, 'policy', 'test', '-')
    expect(text).toContain(
      `Identity token of ${issuer.url} for repo:octo/kernel:ref:refs/heads/main\n`,
    )
    expect(text).toContain('first: matches\n')
    expect(text).toContain('second: does not match\n')
    expect(text).toContain(
      'FAILS  condition ref: wanted "refs/heads/release", found "refs/heads/main"',
    )
    expect(text).toContain('The trust policy first would exchange it.\n')
    const inJson = await printedFor(registry, right, 'policy', 'test', '-', '--json')
    expect(JSON.parse(inJson.stdout)).toMatchObject({ matches: 'first' })
    const wrong = await issuer.token({ repository: 'evil/\u001b[2Jkernel', aud: undefined })
    const ran = await rookery(registry, ['policy', 'test', '-'], undefined, wrong)
    expect(ran).toMatchObject({ status: 1, stderr: '' })
    expect(ran.stdout).toContain(
      'FAILS  audience: wanted "https://registry.example", found nothing',
    )
    expect(ran.stdout).toContain('No trust policy matches')
    expect(ran.stdout).not.toContain('\u001b')
    for (const input of [right, `${right}\n`]) {
      expect(await printedFor(registry, input, 'policy', 'test', '-')).toMatchObject({ status: 0 })
    }
    const unknown = await printedFor(registry, wrong, 'policy', 'test', '-', '--json')
    expect(unknown.status).toBe(1)
    expect(JSON.parse(unknown.stdout)).toMatchObject({ matches: null })
    const foreign = await issuer.token({ iss: 'https://stranger.example' })
    const stranger = await rookery(registry, ['policy', 'test', '-'], undefined, foreign)
    expect(stranger).toMatchObject({ status: 1, stderr: '' })
    expect(stranger.stdout).toContain('No trust policy has this issuer.')
  })

  it('reports an error in one line', async () => {
    for (const [words, message] of [
      [['policy', 'create'], 'missing required argument "NAME"'],
      [['policy', 'create', 'x'], '--issuer <URL> is required'],
      [['policy', 'create', 'x', '--issuer', 'https://a.example'], '--audience <TEXT> is required'],
      [create('x', '--condition', 'repository'), '--condition must be claim=value'],
      [create('x', '--condition', '=octo'), '--condition must be claim=value'],
      [create('x', '--ttl', '2h'), '--ttl must be'],
      [create('x', '--action', 'own'), '--action must be pull, push, delete or admin'],
      [create('X'), 'a name must consist'],
      [create('x', '--issuer', 'https://10.0.0.1'), 'ROOKERY_OIDC_ALLOW_NETWORKS'],
      [['policy', 'remove', 'missing'], 'there is no trust policy missing'],
      [['policy', 'test', 'missing'], 'give an identity token on standard input'],
      [['policy', 'test'], 'missing required argument "TOKEN"'],
    ] as const) {
      expect(await errorLine(registry, ...words), words.join(' ')).toContain(message)
    }
  })
})
