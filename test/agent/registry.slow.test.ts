import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { makeCode } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { AgentHost, SHELLS } from './agent-host.ts'
import { BOOT, buildVirtioKernel, CAN_BOOT } from './virtio-kernel.ts'

const REPOSITORY = 'builds/www'

type Target = {
  host: string
  unit: string
  state: string
  reason: string | null
  message: string | null
  exit?: { code: number }
  log?: string
}
type Deployment = { id: string; state: string; digest: string; targets: Target[] }

let registry: TestRegistry
let host: AgentHost

/** Pushes a kernel, waits for the end of its deployment, and returns that, as a pusher does. */
async function push(kernel: Buffer): Promise<Deployment> {
  const form = new FormData()
  form.append('kernel', new Blob([new Uint8Array(kernel)]), 'www.virtio')
  const path = `/api/v1/repositories/${REPOSITORY}/images?tag=live`
  const pushed = await registry.request(path, { method: 'POST', body: form })
  expect({ status: pushed.status, text: await pushed.text() }).toMatchObject({ status: 201 })
  // As a pusher does who saw no header of the answer.
  const list = await readJson(`/api/v1/repositories/${REPOSITORY}/deployments?tag=live&n=1`)
  const [newest] = (list as { deployments: Deployment[] }).deployments
  expect(newest).toBeDefined()
  const read = async () => (await readJson(`/api/v1/deployments/${newest?.id}`)) as Deployment
  await host.until(
    async () => !['rolling', 'paused'].includes((await read()).state),
    'the deployment ends',
  )
  return read()
}

/** Seconds in which an agent sees the end of a kernel, also on a busy machine, where it takes some to boot. */
const LONG_WATCH = 30

/** Sets the time for which a unit is watched. A deployment that succeeds takes as long. */
async function watchFor(settleSeconds: number): Promise<void> {
  const rollout = { repositories: ['builds/*'], settleSeconds, onFailure: 'halt' }
  const set = await registry.request('/api/v1/rollouts/quick', {
    ...{ method: 'PUT', headers: { 'content-type': 'application/json' } },
    body: JSON.stringify(rollout),
  })
  expect([200, 201]).toContain(set.status)
}

async function readJson(path: string): Promise<unknown> {
  return (await registry.request(path)).json()
}

describe.runIf(CAN_BOOT).each(SHELLS)('a registry and an agent under %s', (shell) => {
  beforeEach(async () => {
    registry = await startRegistry()
    host = await AgentHost.create(shell)
    await watchFor(2)
    const code = await makeCode(registry, { name: 'web-1', repositories: ['builds/*'] })
    await host.enrol(registry.url, code)
    await host.unit('www', {
      ...{ target: 'virtio', start: BOOT },
      check: `exec:cat "${host.state('www', 'console')}"* | grep -q 'hello from version'`,
    })
  })

  afterEach(async () => {
    await host.remove()
    await registry.close()
  })

  it('show the pusher that a unikernel is healthy, and why its next version is not', async () => {
    host.start()
    await host.until(() => host.read('www', 'reported') !== '', 'the unit is registered')
    const first = await buildVirtioKernel('hello from version 1')
    expect(await push(first)).toMatchObject({
      state: 'succeeded',
      targets: [{ host: 'web-1', unit: 'www', state: 'healthy' }],
    })

    await watchFor(LONG_WATCH)
    const second = await push(await buildVirtioKernel('no stack left in version 2', 41))
    expect(second).toMatchObject({
      state: expect.stringMatching(/^(?:failed|halted)$/),
      targets: [
        {
          ...{ state: 'rolled-back', reason: 'ended', exit: { code: 83 } },
          message: expect.stringContaining('Solo5 halted'),
          log: expect.stringContaining('no stack left in version 2'),
        },
      ],
    })
    expect((await host.kernelBytes('www')).equals(first)).toBe(true)
    expect(host.read('www', 'console.next')).toContain('hello from version 1')

    await watchFor(2)
    const third = await push(await buildVirtioKernel('hello from version 3'))
    expect(third).toMatchObject({ state: 'succeeded' })
  })

  it('show that a unikernel which was healthy ended within the watch time', async () => {
    await host.unit('www', {
      target: 'virtio',
      start: `echo 'hello from version'; if grep -qa late "$KERNEL"; then sleep 1; exit 2; fi; exec sleep 600`,
      check: `exec:cat "${host.state('www', 'console')}"* | grep -q 'hello from version'`,
    })
    host.start()
    await host.until(() => host.read('www', 'reported') !== '', 'the unit is registered')
    expect(await push(await buildVirtioKernel('version 1'))).toMatchObject({ state: 'succeeded' })
    await watchFor(LONG_WATCH)
    expect(await push(await buildVirtioKernel('late version 2'))).toMatchObject({
      state: expect.stringMatching(/^(?:failed|halted)$/),
      targets: [{ state: 'rolled-back', reason: 'ended' }],
    })
  })

  it('refuse a code that was used, and a name that has a key', async () => {
    const other = await AgentHost.create(shell)
    try {
      const code = await makeCode(registry, { name: 'web-2', repositories: ['builds/*'] })
      const enrol = (name: string, given: string) =>
        other.run('enrol', registry.url, given, '--name', name)
      expect(await enrol('web-2', code)).toMatchObject({ status: 0 })
      const again = await host.run('enrol', registry.url, code, '--name', 'web-2')
      expect(again.status).toBe(1)
      expect(again.output).toMatch(/not enrolled: 4\d\d /)
    } finally {
      await other.remove()
    }
  })
})
