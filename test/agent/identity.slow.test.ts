import { execFile } from 'node:child_process'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { basic, requestToken } from '../auth/credentials-client.ts'
import { ROOT } from '../house/tree.ts'
import { fixtureOf, pushBuild } from '../images/image-fixtures.ts'
import { makeCode } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { AgentHost } from './agent-host.ts'

const REPOSITORY = 'builds/www'
const run = promisify(execFile)

let registry: TestRegistry
let host: AgentHost

beforeEach(async () => {
  registry = await startRegistry({ ROOKERY_HOST_ENROLMENT: 'approve' })
  host = await AgentHost.create()
  await host.unit('www', { start: 'exec sleep 600' })
})

afterEach(async () => {
  await host.remove()
  await registry.close()
})

const post = (path: string, body: object, method = 'POST') =>
  registry.request(path, {
    ...{ method, headers: { 'content-type': 'application/json' } },
    body: JSON.stringify(body),
  })
const isReported = (state: string) => () =>
  host.read('www', 'reported').includes(` ${state} `) || undefined

/** Waits until the host runs this build. */
async function runs(build: 'hello-key-1' | 'hello-key-2'): Promise<void> {
  const kernel = fixtureOf(build, 'kernel')
  await host.until(isReported('healthy'), 'the kernel is healthy')
  await host.until(
    async () => (await host.kernelBytes('www').catch(() => undefined))?.equals(kernel),
    `${build} runs`,
  )
}

it('a host without a code waits until its fingerprint is approved', async () => {
  const { status, output } = await host.run('enrol', registry.url, '--name', 'web-1')
  expect(status).toBe(0)
  const command = /^web-1 waits for:\n(rookery host approve .*)\n$/m.exec(output)?.[1] ?? ''
  expect(command).toMatch(/ web-1 [\w-]{43} --repository builds\/www$/)
  host.start()
  await host.until(() => host.printed.includes('no token'), 'it has no token')
  await pushBuild(registry, REPOSITORY, 'live')
  const admin = basic('admin', registry.password)
  const token = await requestToken(registry, admin, 'registry:admin:*')
  const env = { PATH: `${join(ROOT, 'bin')}:${process.env.PATH}`, HOME: host.folder }
  await run('sh', ['-c', command], { env: { ...env, ROOKERY_TOKEN: token } })
  host.reload()
  await runs('hello-key-1')
})

it('a host without openssl has the secret of a credential', async () => {
  const made = await post('/api/v1/hosts', { name: 'web-1', repositories: ['builds/*'] })
  expect(made.status).toBe(201)
  const { secret } = (await made.json()) as { secret: string }
  const file = join(host.folder, 'secret')
  await writeFile(file, `${secret}\n`, { mode: 0o600 })
  await writeFile(
    join(host.folder, 'etc/agent.conf'),
    `registry=${registry.url}\nname=web-1\nsecret=${file}\n`,
  )
  await pushBuild(registry, REPOSITORY, 'live')
  host.start()
  await runs('hello-key-1')
})

it('a host whose clock is an hour ahead enrols, and runs what it should', async () => {
  const programs = join(host.folder, 'bin')
  await mkdir(programs)
  const date =
    '#!/bin/sh\n[ "$1" = +%s ] || exec /bin/date "$@"\necho $(($(/bin/date +%s) + 3600))\n'
  await writeFile(join(programs, 'date'), date)
  await chmod(join(programs, 'date'), 0o755)
  host.environment = { PATH: `${programs}:${process.env.PATH}` }
  const code = await makeCode(registry, { name: 'web-1', repositories: ['builds/*'] })
  await pushBuild(registry, REPOSITORY, 'live')
  const { status, output } = await host.run('enrol', registry.url, code, '--name', 'web-1')
  expect({ status, output }).toMatchObject({ status: 0 })
  expect(output).toMatch(/the clock is -3(?:599|600|601) s wrong/)
  host.start()
  await runs('hello-key-1')
})

it('a host that is revoked keeps what runs, and deploys nothing', async () => {
  const code = await makeCode(registry, { name: 'web-1', repositories: ['builds/*'] })
  await host.enrol(registry.url, code)
  await pushBuild(registry, REPOSITORY, 'live')
  host.start()
  await runs('hello-key-1')
  const pid = host.pid('www')
  expect((await registry.request('/api/v1/hosts/web-1', { method: 'DELETE' })).status).toBe(204)
  await host.until(() => host.printed.includes('no token'), 'the host notices')
  await pushBuild(registry, REPOSITORY, 'live', 'hello-key-2')
  host.reload()
  await host.until(() => host.printed.split('no token').length > 2, 'it asks again')
  expect(host.pid('www')).toBe(pid)
  expect((await host.kernelBytes('www')).equals(fixtureOf('hello-key-1', 'kernel'))).toBe(true)
})

it('a host may not follow a repository beyond its patterns', async () => {
  const code = await makeCode(registry, { name: 'web-1', repositories: ['builds/*'] })
  await host.enrol(registry.url, code)
  await host.unit('other', { repository: 'secret/www', start: 'exec sleep 600' })
  await pushBuild(registry, 'secret/www', 'live')
  await pushBuild(registry, REPOSITORY, 'live')
  host.start()
  await runs('hello-key-1')
  await host.until(() => host.printed.includes('the registry refuses the report'), 'a refusal')
  expect(host.printed).toContain('builds/*')
  expect(host.pid('other')).toBeUndefined()
})
