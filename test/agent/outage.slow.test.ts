import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AgentHost, SHELLS, steady } from './agent-host.ts'
import { FakeRegistry } from './fake-registry.ts'

/** The time for which an agent sends one report is shorter. */
const OUTAGE_MILLISECONDS = 20_000
/** The longest pause of an agent after that outage, with the time for its requests on a busy machine. */
const RETURN_MILLISECONDS_MAX = 35_000
/** A database that is away for so long does not end a question for what should run. */
const REFUSING_MILLISECONDS = 5_000
const REPORT_MILLISECONDS_MAX = 10_000

let registry: FakeRegistry
let host: AgentHost

beforeEach(async () => {
  registry = await new FakeRegistry().start()
})
afterEach(async () => {
  await host.remove()
  await registry.stop()
})

describe.each(SHELLS)('a kernel that becomes healthy in an outage, under %s', (shell) => {
  let kernel: string
  let gate: string

  /** Starts an agent that is at the checks of a kernel, which pass when the gate is there. */
  beforeEach(async () => {
    host = await AgentHost.create(shell)
    gate = join(host.folder, 'gate')
    await host.enrol(registry.url)
    await host.unit('www', { check: `exec:[ -e ${gate} ]` })
    host.start()
    await host.until(() => registry.last('www')?.state === 'absent', 'www is registered')
    kernel = registry.want('www', steady('one'), { watch: 0 }).kernel
    await host.until(() => registry.last('www')?.state === 'checking', 'www is checked')
  })

  const isReported = () => {
    const last = registry.last('www')
    return last?.state === 'healthy' && last.kernel === kernel
  }
  const becomesHealthy = async () => {
    await writeFile(gate, '')
    await host.until(() => host.read('www', 'state').startsWith('healthy '), 'it is healthy')
  }

  it('is reported when the registry is back', async () => {
    const port = Number(new URL(registry.url).port)
    await registry.stop()
    await becomesHealthy()
    await delay(OUTAGE_MILLISECONDS)
    await registry.start(port)
    const began = performance.now()
    await host.until(isReported, 'www says healthy')
    expect(performance.now() - began).toBeLessThan(RETURN_MILLISECONDS_MAX)
  })

  it('is reported when the registry takes reports again, though its question was never ended', async () => {
    registry.isWithoutDatabase = true
    await becomesHealthy()
    await delay(REFUSING_MILLISECONDS)
    registry.isWithoutDatabase = false
    const began = performance.now()
    await host.until(isReported, 'www says healthy')
    expect(performance.now() - began).toBeLessThan(REPORT_MILLISECONDS_MAX)
  })
})
