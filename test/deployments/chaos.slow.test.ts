import { writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { randomFrom } from '../process-faults/acknowledged-pushes.ts'
import { Plans } from './chaos-plan.ts'
import { ChaosRunner } from './chaos-runner.ts'
import { KillableServices } from './chaos-services.ts'
import { ChaosSite } from './chaos-site.ts'

const ROUNDS = Number(process.env.CHAOS_ROUNDS ?? 3)
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000)
/** A file for everything that is known of a round that fails. */
const DUMP = process.env.CHAOS_DUMP
const ROUND_SECONDS_MAX = 180

let services: KillableServices
let site: ChaosSite

beforeAll(async () => {
  services = await KillableServices.create()
  site = await ChaosSite.create(services, randomFrom(SEED + 1))
}, 120_000)

afterAll(async () => {
  try {
    await site?.remove()
  } finally {
    await services?.dispose()
  }
})

it(
  `rollouts survive kill -9 of everything (CHAOS_SEED=${SEED}, ${ROUNDS} rounds)`,
  async () => {
    const plans = new Plans(randomFrom(SEED))
    const runner = new ChaosRunner(services, site)
    for (let round = 0; round < ROUNDS; round += 1) {
      const planned = plans.next(site.agents.length, site.simulated.length, services.count)
      const began = performance.now()
      const problems = await runner.run(planned)
      const seconds = ((performance.now() - began) / 1000).toFixed(1)
      problems.push(...services.takeErrors(), ...(await site.problems()))
      process.stdout.write(`round ${round} in ${seconds} s: ${runner.done.join(', ')}\n`)
      if (problems.length > 0 && DUMP) await writeFile(DUMP, site.describe(planned, problems))
      expect(problems, `round ${round}: ${runner.done.join(', ')}`).toEqual([])
    }
    expect(await runner.converge()).toEqual([])
    process.stdout.write(`${runner.summary()}\n`)
  },
  120_000 + ROUNDS * ROUND_SECONDS_MAX * 1000,
)
