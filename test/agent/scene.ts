import { it } from 'vitest'
import { AgentHost, steady } from './agent-host.ts'
import { FakeRegistry } from './fake-registry.ts'

/** A registry, and a host that is enrolled and has the file of the unit `www`. */
export type Scene = {
  readonly registry: FakeRegistry
  readonly host: AgentHost
  /** Waits until the last report of a unit has this state, and this kernel if one is given. */
  says(unit: string, state: string, kernel?: string): Promise<void>
  /** The states that a unit reported. */
  statesOf(unit: string): string[]
  /** Starts the agent, waits until a first kernel is healthy, and returns its digest. */
  startWithFirst(): Promise<string>
}

const TEST_MILLISECONDS_MAX = 120_000

/** Returns a function that defines a test with a scene of its own. Such tests run side by side, because they mostly wait. */
export function testsUnder(shell: string) {
  return (title: string, body: (scene: Scene) => Promise<void>): void =>
    it.concurrent(title, { timeout: TEST_MILLISECONDS_MAX }, async () => {
      const registry = await new FakeRegistry().start()
      const host = await AgentHost.create(shell)
      try {
        await host.enrol(registry.url)
        await host.unit('www')
        await body(sceneOf(registry, host))
      } finally {
        await host.remove()
        await registry.stop()
      }
    })
}

function sceneOf(registry: FakeRegistry, host: AgentHost): Scene {
  const says = (unit: string, state: string, kernel?: string) =>
    host.until(
      () => {
        const last = registry.last(unit)
        return last?.state === state && (kernel === undefined || last.kernel === kernel)
      },
      `${unit} says ${state}: ${JSON.stringify(registry.last(unit))}`,
    )
  return {
    ...{ registry, host, says },
    statesOf: (unit) =>
      registry.reports.filter((one) => one.unit === unit).map(({ state }) => state),
    async startWithFirst() {
      host.start()
      await says('www', 'absent')
      const { kernel } = registry.want('www', steady('one'))
      await says('www', 'healthy', kernel)
      return kernel
    },
  }
}
