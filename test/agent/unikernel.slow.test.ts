import { spawnSync } from 'node:child_process'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { factsOf } from '../unikernel/kernel/kernel-source.ts'
import { AgentHost, SHELLS } from './agent-host.ts'
import { FakeRegistry } from './fake-registry.ts'
import { installServiceManager } from './service-manager.ts'
import { BOOT, buildVirtioKernel, CAN_BOOT } from './virtio-kernel.ts'

describe.runIf(CAN_BOOT).each(SHELLS)('a unikernel that QEMU boots, under %s', (shell) => {
  let registry: FakeRegistry
  let host: AgentHost

  beforeEach(async () => {
    registry = await new FakeRegistry().start()
    host = await AgentHost.create(shell)
    await host.enrol(registry.url)
  })

  afterEach(async () => {
    const env = { ...process.env, ...host.environment }
    if ('SERVICES' in env) spawnSync('systemctl', ['stop', 'unikernel@www'], { env })
    await host.remove()
    await registry.stop()
  })

  const says = (state: string, kernel: string) =>
    host.until(() => {
      const last = registry.last('www')
      return last?.state === state && last.kernel === kernel
    }, `www says ${state}`)

  /** Deploys a version that runs and one that ends at boot, and asserts what a pusher reads of it. */
  async function deployTwo(): Promise<void> {
    const first = await buildVirtioKernel('hello from version 1')
    expect(await factsOf(first)).toMatchObject({
      ...{ architecture: 'x86_64', abi: { target: 'virtio', version: 1 } },
      manifest: { devices: [] },
    })
    host.start()
    const { kernel } = registry.want('www', first, { watch: 2 })
    await says('healthy', kernel)
    const second = await buildVirtioKernel('no stack left in version 2', 41)
    const { deployment } = registry.want('www', second, { watch: 30 })
    await says('rolled-back', kernel)
    expect(registry.last('www')).toMatchObject({
      ...{ deployment, reason: 'ended', message: expect.stringContaining('Solo5 halted') },
      exit: { code: 83 },
      log: expect.stringContaining('no stack left in version 2'),
    })
    expect((await host.kernelBytes('www')).equals(first)).toBe(true)
  }

  it('with the exec runner comes back when its next version ends at boot', async () => {
    await host.unit('www', {
      ...{ target: 'virtio', start: BOOT },
      check: `exec:cat "${host.state('www', 'console')}"* | grep -q 'hello from version'`,
    })
    await deployTwo()
  })

  it('with the systemd runner comes back when its next version ends at boot', async () => {
    const command = BOOT.replace('$KERNEL', host.state('www', 'kernel'))
    host.environment = await installServiceManager(host.folder, command)
    await host.unit('www', {
      ...{ target: 'virtio', runner: 'systemd' },
      check: `exec:grep -q 'hello from version' "$SERVICES/unikernel@www/journal"`,
    })
    await deployTwo()
  })
})
