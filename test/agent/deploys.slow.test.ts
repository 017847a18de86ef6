import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { AgentHost, ending, kernelThat, SHELLS, steady } from './agent-host.ts'
import { FakeRegistry } from './fake-registry.ts'

const WATCH_SECONDS = 5

let registry: FakeRegistry
let host: AgentHost

beforeEach(async () => {
  registry = await new FakeRegistry().start()
})

afterEach(async () => {
  await host.remove()
  await registry.stop()
})

const says = (unit: string, state: string, kernel?: string) =>
  host.until(
    () => {
      const last = registry.last(unit)
      return last?.state === state && (kernel === undefined || last.kernel === kernel)
    },
    `${unit} is ${state}: ${JSON.stringify(registry.last(unit))}`,
  )

describe.each(SHELLS)('under %s', (shell) => {
  beforeEach(async () => {
    host = await AgentHost.create(shell)
    await host.enrol(registry.url)
    await host.unit('www')
  })

  it('a host enrols, runs what it should, and goes back by itself when that crashes', async () => {
    host.start()
    await says('www', 'absent')
    const first = registry.want('www', steady('one'))
    await says('www', 'healthy', first.kernel)
    expect(await host.kernelFile('www')).toBe(steady('one'))
    const second = registry.want('www', ending(2), { watch: 5 })
    await says('www', 'rolled-back', first.kernel)
    expect(registry.last('www')).toMatchObject({
      ...{ deployment: second.deployment, reason: 'ended' },
      exit: { code: 2, meaning: 'uncaught OCaml exception' },
      log: expect.stringContaining('no stack left'),
    })
    expect(digestOf(await host.kernelFile('www'))).toBe(first.kernel)
    expect(host.pid('www')).toBeDefined()
    const states = registry.reports.map((one) => one.state)
    expect(states.filter((one) => one === 'healthy')).toHaveLength(1)
  })

  it.each([
    // The agent counts whole seconds.
    [-2, ['checking', 'rolled-back']],
    [1, ['failed']],
  ])('a kernel that ends %d s after the watch time is reported so', async (after, reported) => {
    host.start()
    await says('www', 'absent')
    const first = registry.want('www', steady('one'))
    await says('www', 'healthy', first.kernel)
    const end = join(host.folder, 'end')
    const kernel = kernelThat(`while [ ! -e ${end} ]; do sleep 0.1; done; exit 2`)
    const second = registry.want('www', kernel, { watch: WATCH_SECONDS })
    await says('www', 'healthy', second.kernel)
    await new Promise((resolve) => setTimeout(resolve, (WATCH_SECONDS + after) * 1000))
    const before = registry.reports.length
    await writeFile(end, '')
    await says('www', reported.at(-1) ?? '')
    const states = registry.reports.slice(before).map((one) => one.state)
    expect(states.slice(0, reported.length)).toEqual(reported)
    const healthySeconds = registry.last('www')?.healthySeconds
    expect(Number(healthySeconds) < WATCH_SECONDS).toBe(after < 0)
  })
})
