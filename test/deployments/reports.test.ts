import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enrolHost, type TestHost } from '../support/hosts.ts'
import { expectError } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  desiredUnits,
  insertDeployment,
  KERNEL,
  OTHER_KERNEL,
  report,
  sendReport,
  targetOf,
} from './reporting.ts'
import { rowsOf } from './rows.ts'
import { type RunningUnit, runningUnit } from './running-unit.ts'

const run = promisify(execFile)

let registry: TestRegistry
let host: TestHost
let repository: string
/** The digests of the images of KERNEL and OTHER_KERNEL. */
let good: string
let next: string
let follows: RunningUnit['follows']
let unit: RunningUnit

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

/** A host whose unit is healthy with the first image, and a repository that has another one. */
async function running(): Promise<void> {
  unit = await runningUnit(registry)
  ;({ repository, host, follows, good, next } = unit)
}

const granted = () => unit.granted()
const unitRow = () => unit.row()

describe('the target of a unit', () => {
  it('follows the reports until the unit is healthy', async () => {
    await running()
    const deployment = await granted()
    for (const state of ['fetching', 'starting', 'checking']) {
      await report(host, { follows, state, kernel: KERNEL, deployment })
      expect(await targetOf(registry, deployment)).toMatchObject({ state, healthyAt: null })
    }
    await report(host, { follows, state: 'healthy', kernel: OTHER_KERNEL, deployment })
    expect(await targetOf(registry, deployment)).toMatchObject({
      state: 'healthy',
      healthyAt: expect.any(Date),
    })
    expect(await unitRow()).toMatchObject({ good_digest: next, kernel: OTHER_KERNEL })
    const path = `/api/v1/events?type=deployment.target.changed&repository=${repository}&snapshot=0`
    const changes = async () => {
      const rows = await rowsOf<{ body: string }>(
        registry,
        `select body from events where type = 'deployment.target.changed' and body like $1 order by position`,
        [`%${deployment}%`],
      )
      return rows.map(({ body }) => JSON.parse(body).data)
    }
    await expect
      .poll(async () => (await changes()).map(({ state }) => state))
      .toEqual([...['fetching', 'starting', 'checking', 'healthy']])
    expect((await changes()).at(-1)).toMatchObject({
      ...{ repository, tag: 'live', digest: next, deployment, kind: 'push' },
      ...{ host: host.name, unit: 'www', settled: false, kernel: OTHER_KERNEL, exitCode: null },
    })
    expect((await registry.request(path)).status).toBe(200)
  })

  it('does not follow a unit that is healthy with its old kernel', async () => {
    await running()
    const deployment = await granted()
    await report(host, { follows, state: 'healthy', kernel: KERNEL })
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'granted' })
  })

  it('does not follow what the unit says of another deployment', async () => {
    await running()
    const earlier = await granted()
    const deployment = await granted()
    await report(host, { follows, state: 'failed', kernel: null, deployment: earlier })
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'granted' })
    expect(await unitRow()).toMatchObject({ state: 'failed', granted_digest: next })
  })

  it('fails with exit code and words, and the unit goes back to what was healthy', async () => {
    await running()
    const deployment = await granted()
    const { desired } = await report(host, {
      ...{ follows, deployment, state: 'rolled-back', kernel: KERNEL },
      ...{ exit: { code: 2, meaning: 'uncaught \x1b[1mOCaml\x1b[0m exception' } },
      ...{ reason: 'check-failed', message: 'Fatal error: exception Not_found' },
      log: { text: 'Fatal error: exception Not_found\nsolo5_exit(2) called\n' },
    })
    const path = `/api/v1/deployments/${deployment}`
    const { targets } = (await (await registry.request(path)).json()) as { targets: unknown[] }
    expect(targets).toMatchObject([
      {
        ...{ exit: { code: 2, meaning: 'uncaught OCaml exception' }, reason: 'check-failed' },
        message: 'Fatal error: exception Not_found',
        log: 'Fatal error: exception Not_found\nsolo5_exit(2) called\n',
      },
    ])
    expect(await targetOf(registry, deployment)).toMatchObject({
      ...{ state: 'rolled-back', exitCode: 2, reason: 'check-failed' },
      ...{ message: 'Fatal error: exception Not_found', endedAt: expect.any(Date) },
    })
    expect(desired).toMatchObject({ digest: good, deployment: null, kernel: { digest: KERNEL } })
    expect(await unitRow()).toMatchObject({ failed_digest: next, good_digest: good })
  })

  it('stays healthy when the unit fails after the watch time', async () => {
    await running()
    const deployment = await granted()
    await report(host, { follows, state: 'healthy', kernel: OTHER_KERNEL, deployment })
    await rowsOf(registry, 'update targets set settled_at = now() where deployment_id = $1', [
      deployment,
    ])
    await report(host, { follows, state: 'failed', kernel: null, deployment })
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'healthy' })
    expect(await unitRow()).toMatchObject({ state: 'failed', granted_digest: next })
  })

  it('is healthy late, after it was overdue', async () => {
    await running()
    const deployment = await granted()
    await rowsOf(registry, `update targets set state = 'overdue' where deployment_id = $1`, [
      deployment,
    ])
    await report(host, { follows, state: 'checking', kernel: OTHER_KERNEL, deployment })
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'overdue' })
    await report(host, { follows, state: 'healthy', kernel: OTHER_KERNEL, deployment })
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'healthy' })
  })
})

describe('a new unit', () => {
  it('of a tag whose deployment succeeded joins it', async () => {
    await running()
    const deployment = await insertDeployment(registry, repository, good, 'succeeded')
    const { desired } = await report(await enrolHost(registry), { follows })
    expect(desired).toMatchObject({ digest: good, deployment })
  })

  it('of a tag whose deployment goes on gets the last good image, and waits at the end', async () => {
    await running()
    await insertDeployment(registry, repository, next, 'succeeded')
    const deployment = await insertDeployment(registry, repository, good)
    host = await enrolHost(registry)
    const { desired } = await report(host, { follows })
    expect(desired).toMatchObject({ digest: next, deployment: null })
    expect(desired.hold).toBe('waits for its turn')
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'waiting', kernel: KERNEL })
  })

  it('without a tender for the image in progress is refused before anything is fetched', async () => {
    await running()
    const deployment = await insertDeployment(registry, repository, good)
    host = await enrolHost(registry)
    const tenders = [{ target: 'spt', abi: 1, architecture: 'x86_64' }]
    await report(host, { follows, tenders })
    expect(await targetOf(registry, deployment)).toMatchObject({
      ...{ state: 'refused', reason: 'target', kernel: null },
    })
  })

  it('of a tag whose deployment failed gets the last good image, or waits for one', async () => {
    await running()
    await insertDeployment(registry, repository, good, 'halted')
    const { desired } = await report(await enrolHost(registry), { follows })
    expect(desired).toMatchObject({ digest: null, reason: 'waits' })
    await insertDeployment(registry, repository, next, 'succeeded')
    await insertDeployment(registry, repository, good, 'failed')
    const after = await report(await enrolHost(registry), { follows })
    expect(after.desired).toMatchObject({ digest: next })
  })

  it('that follows another tag than before leaves the deployment of the old one', async () => {
    await running()
    const deployment = await granted()
    const moved = { ...follows, tag: 'next' }
    const { desired } = await report(host, { follows: moved, kernel: KERNEL, state: 'healthy' })
    expect(desired).toMatchObject({ tag: 'next', digest: next, deployment: null })
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'skipped' })
  })

  it('of a repository that the host may not follow is refused', async () => {
    host = await enrolHost(registry, { repositories: ['builds/*'] })
    const answer = await sendReport(host, { follows: { repository: 'other/www', tag: 'live' } })
    const text = await answer.clone().text()
    await expectError(answer, 403, 'DENIED')
    expect(text).toContain('builds/*')
    expect(await desiredUnits(host)).toEqual([])
  })

  it('is refused when the host has a hundred', async () => {
    await running()
    await rowsOf(
      registry,
      `insert into units (host_id, name, repository, tag, state, boot_id, sequence, since)
       select $1, 'unit-' || n, $2, 'live', 'absent', 'boot-1', 0, now()
         from generate_series(1, 99) as n`,
      [host.id, repository],
    )
    const answer = await sendReport(host, { follows }, 'one-more')
    await expectError(answer, 400, 'REQUEST_INVALID')
    await report(host, { follows }, 'unit-1')
  })
})

describe('a report', () => {
  it('of a host that was revoked meanwhile changes nothing', async () => {
    await running()
    await rowsOf(
      registry,
      `insert into revocations (subject, expires_at) values ($1, now() + interval '1 h')`,
      [`host:${host.id}`],
    )
    await expectError(await sendReport(host, { follows, state: 'failed' }), 401, 'UNAUTHORIZED')
    const path = `/api/v1/hosts/${host.name}/units/www`
    await expectError(await host.request(path, { method: 'DELETE' }), 401, 'UNAUTHORIZED')
    expect(await unitRow()).toMatchObject({ state: 'healthy' })
  })

  it('records which kernel ran when', async () => {
    await running()
    await report(host, { follows, state: 'healthy', kernel: OTHER_KERNEL })
    await report(host, { follows, state: 'checking', kernel: OTHER_KERNEL })
    await report(host, { follows, state: 'stopped', kernel: null })
    const runs = await rowsOf(
      registry,
      `select kernel, repository, to_at is null as "isOpen" from runs where host_id = $1 order by id`,
      [host.id],
    )
    expect(runs).toEqual([
      { kernel: KERNEL, repository, isOpen: false },
      { kernel: OTHER_KERNEL, repository, isOpen: false },
    ])
  })

  it('is stored without terminal escapes and control characters', async () => {
    await running()
    await report(host, {
      ...{ follows, state: 'failed', reason: 'exited' },
      message: 'red \x1b[31malarm\x1b[0m\x07\r\nand \x1b]0;title\x07more \u202ehidden',
      log: { text: 'one\x1b[2J\r\ntwo\x9b1m\x00\n\tthree\n' },
    })
    expect(await unitRow()).toMatchObject({ message: 'red alarm and more hidden' })
    const logs = await rowsOf(registry, 'select text from unit_logs where host_id = $1', [host.id])
    expect(logs).toEqual([{ text: 'one\ntwo\n\tthree\n' }])
  })

  it('keeps the last lines of a unit, and not all that it ever printed', async () => {
    await running()
    for (let count = 0; count < 20; count += 1) {
      await report(host, { follows, log: { text: `${count}\n`.padEnd(16 * 1024, 'x') } })
    }
    const logs = await rowsOf<{ text: string }>(
      registry,
      'select text from unit_logs where host_id = $1 order by id',
      [host.id],
    )
    expect(logs.at(-1)?.text).toMatch(/^19\n/)
    const bytes = logs.reduce((sum, { text }) => sum + text.length, 0)
    expect(bytes).toBeLessThanOrEqual(256 * 1024)
    expect(bytes).toBeGreaterThan(200 * 1024)
  })

  it('as a form of curl says the same as in JSON', async () => {
    await running()
    const folder = await mkdtemp(join(tmpdir(), 'rookery-report-'))
    const log = join(folder, 'console')
    await writeFile(log, 'a "quoted" line\n\x1b[1mbold\x1b[0m\n')
    const form = {
      ...{ follows: JSON.stringify(follows), devices: '["net:service"]' },
      ...{ bootId: 'boot-1', sequence: '5000', kernel: '', state: 'failed', reason: 'exited' },
      exit: '{"code":2}',
      message: 'it said: "no" \\ ä',
      tenders: '[{"target":"hvt","abi":2,"architecture":"x86_64"}]',
      agent: 'rookery-agent/1',
    }
    const fields = Object.entries(form).flatMap(([name, value]) => [
      '--form-string',
      `${name}=${value}`,
    ])
    const { stdout } = await run('curl', [
      ...['-sS', '-X', 'PUT', '-H', `Authorization: Bearer ${await host.token()}`],
      ...[...fields, '-F', `log=@${log}`, `${registry.url}/api/v1/hosts/${host.name}/units/www`],
    ])
    await rm(folder, { recursive: true })
    expect(JSON.parse(stdout)).toMatchObject({
      stale: false,
      desired: { seen: { sequence: 5000 } },
    })
    expect(await unitRow()).toMatchObject({
      ...{ state: 'failed', kernel: null, exit_code: 2, message: 'it said: "no" \\ ä' },
      devices: ['net:service'],
    })
    const logs = await rowsOf(registry, 'select text from unit_logs where host_id = $1', [host.id])
    expect(logs).toEqual([{ text: 'a "quoted" line\nbold\n' }])
  })

  it.each<[string, Record<string, unknown>, string]>([
    ['a message of more than a KiB', { message: 'x'.repeat(1025) }, 'at most 1024 bytes'],
    ['a log of more than 16 KiB', { log: { text: 'x'.repeat(16_385) } }, 'at most 16384 bytes'],
    ['an unknown state', { state: 'fine' }, 'healthy'],
    ['a reason of two words', { reason: 'it failed' }, 'one word'],
    ['no boot', { bootId: undefined }, 'bootId is missing'],
    ['a negative sequence', { sequence: -1 }, 'sequence must be a whole number'],
    ['no sequence', { sequence: undefined }, 'sequence must be a whole number'],
    ['a kernel that is no digest', { kernel: 'x' }, 'digest'],
    ['a device without a kind', { devices: ['service'] }, 'net:service'],
    ['an unknown target', { follows: { repository: 'a/b', tag: 'x', target: 'vm' } }, 'hvt'],
    ['a tender without a target', { tenders: [{ abi: 1 }] }, 'tenders[0].target is missing'],
    ['an unknown field', { status: 'healthy' }, 'status is not a field'],
    ['a deployment that is no id', { deployment: '7' }, 'id of a deployment'],
  ])('with %s is refused, and the answer says what is right', async (_, fields, word) => {
    const one = await enrolHost(registry)
    const answer = await sendReport(one, { follows: { repository: 'a/b', tag: 'live' }, ...fields })
    const text = await answer.clone().text()
    expect(answer.status).toBe(400)
    expect(JSON.parse(text).errors[0].message).toContain(word)
  })
})

describe('a unit that its host removes', () => {
  it('is gone, its run ends, and its deployment does not wait for it', async () => {
    await running()
    const deployment = await granted()
    const path = `/api/v1/hosts/${host.name}/units/www`
    expect((await host.request(path, { method: 'DELETE' })).status).toBe(204)
    expect(await desiredUnits(host)).toEqual([])
    expect(await targetOf(registry, deployment)).toMatchObject({ state: 'skipped' })
    const open = await rowsOf(registry, 'select 1 from runs where host_id = $1 and to_at is null', [
      host.id,
    ])
    expect(open).toEqual([])
    await expectError(await host.request(path, { method: 'DELETE' }), 404, 'NOT_FOUND')
  })
})
