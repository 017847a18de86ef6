import { afterAll, beforeAll, expect, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { addDeployment, endDeployment } from '../deployments/deployment-rows.ts'
import { rowsOf } from '../deployments/rows.ts'
import { pushBuild } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const OPEN = 'open/www'
const SECRET = 'secret/www'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
  for (const repository of [OPEN, SECRET])
    await pushBuild(registry, repository, 'live', 'hello-key-1')
  await rowsOf(registry, "update repositories set visibility = 'private' where name = $1", [SECRET])
})
afterAll(() => registry.close())

async function start(headers: Record<string, string> = {}): Promise<string> {
  const answer = await registry.anonymous('/', { headers })
  expect(answer.status).toBe(200)
  const text = await answer.text()
  const section = /<section aria-labelledby="attention">.*?<\/section>/s.exec(text)?.[0] ?? ''
  return section.replace(/<[^>]+>/g, ' ').replace(/\s+/g, ' ')
}

const admin = () => ({ authorization: basic('admin', registry.password) })

async function holder(repositories: string[], actions: ('pull' | 'admin')[]) {
  const made = await makeCredential(registry, { repositories, actions })
  return { authorization: basic(made.name, made.secret) }
}

async function addFailedBuild(repository: string, platform: string, daysAgo = 0): Promise<void> {
  await rowsOf(
    registry,
    `insert into builds (repository_id, manifest_digest, result, platform, builder_name, started_at, recorded_at)
     select id, $2, 'failed', $3, 'orb', now() - make_interval(days => $4), now() - make_interval(days => $4)
       from repositories
      where name = $1`,
    [repository, `sha256:${'f'.repeat(64)}`, platform, daysAgo],
  )
}

async function addHost(name: string, state: 'pending' | 'active', repositories: string[]) {
  await rowsOf(
    registry,
    `insert into hosts (name, state, trust, repositories, created_by, expires_at, seen_at, lost_at)
     select $1, $2, 'key', $3, 'admin', case when $2 = 'pending' then now() + interval '1 hour' end,
            case when $2 = 'active' then now() end, case when $2 = 'active' then now() end`,
    [name, state, repositories],
  )
}

it('shows nothing when all is well', async () => {
  expect(await start(admin())).toBe('')
})

it('shows builds that failed and were not built since, to those who may pull', async () => {
  await addFailedBuild(OPEN, 'debian-12')
  await addFailedBuild(SECRET, 'freebsd-14')
  await addFailedBuild(OPEN, 'alpine-3', 30)
  const everybody = await start()
  expect(everybody).toContain(`Build of ${OPEN} on debian-12 ✗ failed`)
  expect(everybody).not.toMatch(/secret|alpine/)
  const reader = await start(await holder(['secret/*'], ['pull']))
  expect(reader).toContain(`Build of ${SECRET} on freebsd-14`)
  await rowsOf(
    registry,
    `insert into builds (repository_id, manifest_digest, kernel_digest, result, platform, builder_name)
     select id, $2, $2, 'succeeded', 'debian-12', 'orb' from repositories where name = $1`,
    [OPEN, `sha256:${'e'.repeat(64)}`],
  )
  expect(await start()).toBe('')
})

it('shows deployments that failed and that no other followed, to callers with a credential', async () => {
  const [failed, halted] = [
    await addDeployment(registry, OPEN),
    await addDeployment(registry, SECRET),
  ]
  await endDeployment(registry, failed, 'failed')
  await endDeployment(registry, halted, 'halted')
  expect(await start(admin())).toMatch(
    /Deployment 1 of secret\/www:live ✗ halted .* Deployment 1 of open\/www:live ✗ failed/,
  )
  const other = await start(await holder(['other/*'], ['pull']))
  expect(other).toContain('open/www:live')
  expect(other).not.toContain('secret')
  expect(await start()).not.toContain('Deployment')
  await addDeployment(registry, OPEN)
  expect(await start(admin())).not.toContain('open/www:live')
})

it('shows hosts that wait or are offline, to those who may manage them', async () => {
  await addHost('waits', 'pending', [])
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) await addHost(name, 'active', ['team/*'])
  await addHost('other', 'active', ['**'])
  const manager = await start(await holder(['team/**'], ['admin', 'pull']))
  expect(manager).toMatch(/Host waits … pending .* Host f ✗ offline/)
  expect(manager).toContain('2 more hosts')
  expect(manager).not.toContain('Host other')
  expect(await start(await holder(['team/**'], ['pull']))).not.toContain('Host')
  expect(await start()).not.toContain('Host')
})
