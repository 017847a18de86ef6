import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ROOT } from '../house/tree.ts'
import { hasProgram } from '../support/has-program.ts'
import { HAS_SYSTEMD, type Systemd } from '../support/systemd.ts'
import { AGENT, AgentHost, ending, steady } from './agent-host.ts'
import { bootAgent } from './agent-systemd.ts'
import { FakeRegistry } from './fake-registry.ts'

const SERVICE = join(ROOT, 'agent/rookery-agent.service')
/** From 0 to 10; systemd calls up to 4 OK. */
const EXPOSURE_MAX = 3
const TEST_MILLISECONDS_MAX = 180_000

describe.runIf(hasProgram('systemd-analyze'))('the service of the agent', () => {
  it('has no mistake that systemd finds', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-service-'))
    try {
      const service = join(folder, 'rookery-agent.service')
      const text = await readFile(SERVICE, 'utf8')
      await writeFile(service, text.replace('/usr/local/bin/rookery-agent', AGENT))
      const { status, stderr } = spawnSync('systemd-analyze', ['verify', service], {
        encoding: 'utf8',
      })
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('may do little', () => {
    const words = ['security', '--offline=yes', '--no-pager', SERVICE]
    const { stdout } = spawnSync('systemd-analyze', words, { encoding: 'utf8' })
    const level = /Overall exposure level for rookery-agent\.service: ([\d.]+)/.exec(stdout)?.[1]
    expect(Number(level)).toBeLessThanOrEqual(EXPOSURE_MAX)
  })
})

describe.runIf(HAS_SYSTEMD)('under a real systemd', () => {
  let registry: FakeRegistry
  let host: AgentHost
  let systemd: Systemd | undefined

  beforeEach(async () => {
    registry = await new FakeRegistry().start()
    host = await AgentHost.create()
    await host.enrol(registry.url)
    await host.unit('www', { runner: 'systemd', kernel: '/var/lib/unikernels/www.hvt', start: '' })
  })
  afterEach(async () => {
    await systemd?.stop()
    await host.remove()
    await registry.stop()
  })

  it('the service of the agent runs a unikernel, and restores the one before', {
    timeout: TEST_MILLISECONDS_MAX,
  }, async (context) => {
    try {
      systemd = await bootAgent(host.folder)
    } catch (error) {
      context.skip(String(error))
    }
    const says = (state: string, kernel?: string) =>
      host.until(() => {
        const last = registry.last('www')
        return last?.state === state && (kernel === undefined || last.kernel === kernel)
      }, `www says ${state}`)
    const show = (unit: string) => systemd?.run('systemctl', 'show', '-p', 'MainPID', unit)
    await says('absent')
    const { kernel } = registry.want('www', steady('one'))
    await says('healthy', kernel)
    const second = registry.want('www', ending(2), { watch: 10 })
    await says('rolled-back', kernel)
    expect(registry.last('www')).toMatchObject({
      ...{ deployment: second.deployment, reason: 'ended' },
      exit: { code: 2, meaning: 'uncaught OCaml exception' },
      log: expect.stringContaining('no stack left'),
    })
    const unikernel = await show('unikernel@www')
    expect(unikernel).toMatch(/^MainPID=[1-9]/)
    const agent = await show('rookery-agent')
    await systemd?.run('systemctl', 'restart', 'rookery-agent')
    expect(await show('rookery-agent')).not.toBe(agent)
    const third = registry.want('www', steady('three'), { watch: 0 })
    await says('healthy', third.kernel)
    const running = await show('unikernel@www')
    expect(running).not.toBe(unikernel)
    await systemd?.run('systemctl', 'restart', 'rookery-agent')
    await systemd?.run('systemctl', 'reload', 'rookery-agent')
    expect(await show('unikernel@www')).toBe(running)
  })
})
