import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, KERNEL, OTHER_KERNEL, report } from './reporting.ts'
import { rowsOf } from './rows.ts'
import { type RunningUnit, runningUnit } from './running-unit.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

/** When the host was last seen to be two machines, and the events about it. */
async function conflictOf({ host }: RunningUnit) {
  const [row] = await rowsOf<{ conflict: unknown; events: string }>(
    registry,
    `select conflict_at as conflict, (
              select count(*) from events where type = 'host.conflict' and body like $2
            ) as events
       from hosts where id = $1`,
    [host.id, `%"${host.name}"%`],
  )
  return row
}

const NO_CONFLICT = { conflict: null, events: '0' }
const CONFLICT = { conflict: expect.any(Date), events: '1' }

describe('a report', () => {
  it('that is older than the last of its boot is answered as stale, and changes nothing', async () => {
    const { host, follows, ...unit } = await runningUnit(registry)
    const late = { follows, sequence: 1_000_000, state: 'healthy', kernel: KERNEL }
    await report(host, late)
    const { stale, desired } = await report(host, { follows, sequence: 999_999, state: 'failed' })
    expect(stale).toBe(true)
    expect(desired.seen).toEqual({ kernel: KERNEL, state: 'healthy', sequence: 1_000_000 })
    expect((await report(host, late)).stale).toBe(false)
    expect((await report(host, { ...late, state: 'failed' })).stale).toBe(true)
    expect(await unit.row()).toMatchObject({ state: 'healthy' })
  })

  it('of another boot counts from the start', async () => {
    const { host, follows, ...unit } = await runningUnit(registry)
    const { stale } = await report(host, { follows, bootId: 'boot-2', sequence: 0 })
    expect(stale).toBe(false)
    expect(await unit.row()).toMatchObject({ state: 'absent', boot_id: 'boot-2' })
  })
})

describe('a report of the boot before', () => {
  it('that comes late changes nothing, however often it is sent, and is no conflict', async () => {
    const unit = await runningUnit(registry)
    const { host, follows } = unit
    await report(host, { follows, bootId: 'boot-2', sequence: 1 })
    const now = { follows, bootId: 'boot-2', state: 'healthy', kernel: OTHER_KERNEL }
    await report(host, { ...now, sequence: 2 })
    const late = { follows, bootId: 'boot-1', sequence: 9000, state: 'failed', kernel: null }
    for (let times = 0; times < 3; times += 1) {
      const { stale, desired } = await report(host, late)
      expect({ stale, seen: desired.seen }).toEqual({
        stale: true,
        seen: { kernel: OTHER_KERNEL, state: 'healthy', sequence: 2 },
      })
    }
    expect((await report(host, { ...late, sequence: 8999 })).stale).toBe(true)
    expect((await report(host, { ...now, sequence: 3 })).stale).toBe(false)
    expect(await unit.row()).toMatchObject({ state: 'healthy', boot_id: 'boot-2', sequence: '3' })
    expect(await conflictOf(unit)).toEqual(NO_CONFLICT)
  })

  it('may come late for each unit of the host, also before the unit reports anew', async () => {
    const unit = await runningUnit(registry)
    const { host, follows } = unit
    await report(host, { follows }, 'api')
    await report(host, { follows, bootId: 'boot-2' })
    await report(host, { follows, sequence: 9000 })
    await report(host, { follows, sequence: 9000 }, 'api')
    await report(host, { follows, bootId: 'boot-2', sequence: 0 }, 'api')
    expect((await report(host, { follows, sequence: 8999 }, 'api')).stale).toBe(true)
    await report(host, { follows, sequence: 9000 }, 'new')
    expect(await conflictOf(unit)).toEqual(NO_CONFLICT)
  })

  it('that goes on shows that two machines have one key, and both get answers', async () => {
    const unit = await runningUnit(registry)
    const { host, follows } = unit
    for (let times = 0; times < 3; times += 1) {
      for (const [bootId, kernel] of [
        ['boot-2', OTHER_KERNEL],
        ['boot-1', KERNEL],
      ]) {
        const { desired } = await report(host, { follows, bootId, state: 'healthy', kernel })
        expect(desired).toMatchObject({ digest: unit.good, kernel: { digest: KERNEL } })
        expect((await ask(host)).status).toBe(200)
      }
    }
    await expect.poll(() => conflictOf(unit)).toEqual(CONFLICT)
    expect((await report(host, { follows, bootId: 'boot-1', state: 'stopped' })).stale).toBe(false)
    expect(await conflictOf(unit)).toEqual(CONFLICT)
    const shown = await registry.request(`/api/v1/hosts/${host.name}`)
    expect(await shown.json()).toMatchObject({ conflictAt: expect.any(String), state: 'active' })
  })

  it.each([3, 5])('shows the same of %i machines that report in turn', async (machines) => {
    const unit = await runningUnit(registry)
    const { host, follows } = unit
    for (let times = 0; times < 3; times += 1) {
      for (let machine = 1; machine <= machines; machine += 1) {
        await report(host, { follows, bootId: `boot-${machine}`, state: 'healthy', kernel: KERNEL })
      }
    }
    await expect.poll(() => conflictOf(unit)).toEqual(CONFLICT)
  })

  it('shows the same when the machines report different units', async () => {
    const unit = await runningUnit(registry)
    const { host, follows } = unit
    for (let times = 0; times < 3; times += 1) {
      await report(host, { follows, bootId: 'boot-2' }, 'copied')
      await report(host, { follows, state: 'healthy', kernel: KERNEL })
    }
    await expect.poll(() => conflictOf(unit)).toEqual(CONFLICT)
  })
})
