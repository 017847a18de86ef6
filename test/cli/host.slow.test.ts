import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, requestToken } from '../auth/credentials-client.ts'
import { assertionOf, issuerOf, makeHostKey, postForm } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { builderOutput, errorLine, printedJson } from './builder.ts'

let registry: TestRegistry
let login: Record<string, string>
let host: string

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_HOST_ENROLMENT: 'approve' })
  const admin = basic('admin', registry.password)
  login = { ROOKERY_TOKEN: await requestToken(registry, admin, 'registry:admin:*') }
  host = registry.url
})
afterAll(() => registry.close())

const run = (...words: string[]) => builderOutput(['host', ...words], login)
const json = (...words: string[]) => printedJson(['host', ...words], login)

async function enrol(fields: Record<string, string>, key = makeHostKey()) {
  const answer = await postForm(registry, '/api/v1/hosts/enrol', {
    ...fields,
    jwk: JSON.stringify(key.jwk),
    proof: assertionOf(key, await issuerOf(registry)),
  })
  return { status: answer.status, key }
}

describe('rookery host', () => {
  it('create prints the command for the host, once', async () => {
    const printed = await run(
      ...['create', host, 'web-1', '--repository', 'builds/*', '--label', 'site=a'],
      ...['--network', '127.0.0.0/8', '--ttl', '10m'],
    )
    const [line = '', command = ''] = printed.split('\n')
    expect(line).toMatch(/^Run this on web-1, once, before 20.*Z:$/)
    const [program, verb, url, code = '', ...name] = command.split(' ')
    expect([program, verb, url, ...name]).toEqual([
      ...['rookery-agent', 'enrol', registry.url, '--name', 'web-1'],
    ])
    expect((await enrol({ code })).status).toBe(201)
  })

  it('create --secret prints a password', async () => {
    const printed = await run('create', host, 'old-1', '--repository', 'builds/*', '--secret')
    expect(printed).toMatch(/^Password of old-1:\nrky_\S+\n$/)
    const shown = await run('show', host, 'old-1')
    expect(shown).toContain('fingerprint   none: it has a password, which is weaker than a key')
    const refused = ['host', 'create', host, 'x', '--repository', 'a', '--secret', '--ttl', '1h']
    expect(await errorLine(refused, login)).toContain('--ttl is for a code')
  })

  it('approve activates a host by its fingerprint', async () => {
    const { status, key } = await enrol({ name: 'waits' })
    expect(status).toBe(202)
    expect(await run('list', host, '--state', 'pending')).toMatch(/^waits +pending +never/m)
    const other = makeHostKey().thumbprint
    const wrong = ['host', 'approve', host, 'waits', other, '--repository', 'builds/*']
    expect(await errorLine(wrong, login)).toContain('has another fingerprint')
    const shown = await run('approve', host, 'waits', key.thumbprint, '--repository', 'builds/*')
    expect(shown).toMatch(/^state +active, offline$/m)
  })

  it('list, show, label and update change what people see', async () => {
    const labelled = await json('label', host, 'web-1', 'rack=7', 'site-')
    expect(labelled).toMatchObject({ labels: { rack: '7' } })
    expect(await run('list', host, '--label', 'rack=7')).toMatch(/^web-1 .*rack=7 +builds\/\*$/m)
    const updated = await json('update', host, 'web-1', '--repository', 'a/*,b/*', '--any-network')
    expect(updated).toMatchObject({ repositories: ['a/*', 'b/*'], networks: null })
    expect(await json('show', host, 'web-1')).toMatchObject({ name: 'web-1', units: [] })
    expect(await json('units', host, 'web-1')).toEqual({ units: [] })
    expect(await errorLine(['host', 'label', host, 'web-1', 'rack'], login)).toContain(
      'LABEL=VALUE',
    )
  })

  it('revoke ends a host', async () => {
    expect(await run('revoke', host, 'web-1')).toBe('Revoked host web-1\n')
    expect(await errorLine(['host', 'show', host, 'web-1'], login)).toContain('no host web-1')
  })
})
