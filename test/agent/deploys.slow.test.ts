import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { AgentHost, ending, SHELLS, steady } from './agent-host.ts'
import { FakeRegistry } from './fake-registry.ts'

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
})
