import type { Rollout } from '../../src/deployments/rollout.ts'
import {
  KERNEL_BEHAVIOURS,
  type KernelBehaviour,
  KILLED,
  STAGES,
  type Stage,
} from './chaos-agent.ts'
import { type ChaosTag, TAGS } from './chaos-site.ts'

/** The time in which the causes of a round begin, in milliseconds. */
const CAUSES_MILLISECONDS = 2_500
const DOWN_MILLISECONDS_MAX = 400
/** How long the registry is away in a round in which it is away for seconds. */
const AWAY_MILLISECONDS_MAX = 2_500

/** Something that a round does, so many milliseconds after its start. */
export type Step = { readonly at: number } & (
  | { readonly kind: 'push'; readonly tag: ChaosTag; readonly behaviour: KernelBehaviour }
  | { readonly kind: 'kill server'; readonly server: number; readonly down: number }
  | { readonly kind: 'kill Postgres'; readonly down: number }
  | { readonly kind: 'kill everything'; readonly down: number }
  | {
      readonly kind: 'kill agent'
      readonly agent: number
      readonly killed: (typeof KILLED)[number]
      readonly unit: number
      readonly stage: Stage | undefined
      readonly down: number
    }
  | { readonly kind: 'kill kernel'; readonly agent: number; readonly unit: number }
  | { readonly kind: 'kill simulated host'; readonly host: number; readonly down: number }
  | { readonly kind: 'pause'; readonly tag: ChaosTag; readonly down: number }
  | { readonly kind: 'cancel' | 'retry'; readonly tag: ChaosTag }
)

/** Everything that a round does. */
export type Round = {
  readonly rollouts: Readonly<Record<ChaosTag, Partial<Rollout>>>
  /** The agent that is lost before the first push, and returns after the last one. */
  readonly lost: number | undefined
  readonly steps: readonly Step[]
}

/** Draws rounds from a sequence of random numbers: the same sequence gives the same rounds. */
export class Plans {
  readonly #random: () => number

  constructor(random: () => number) {
    this.#random = random
  }

  next(agents: number, simulated: number, servers: number): Round {
    const lost = this.#isChosen(0.12) ? this.#below(agents) : undefined
    const steps = TAGS.flatMap((tag) => this.#pushes(tag, lost !== undefined))
    const count = lost === undefined ? 2 + this.#below(3) : this.#below(2)
    for (let index = 0; index < count; index += 1) {
      steps.push(this.#fault(agents, simulated, servers))
    }
    if (this.#isChosen(0.4)) steps.push(this.#action())
    const rollouts = { live: this.#rollout(), edge: this.#rollout() }
    return { rollouts, lost, steps: steps.sort((a, b) => a.at - b.at) }
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  #isChosen(share: number): boolean {
    return this.#random() < share
  }

  #oneOf<T>(values: readonly [T, ...T[]]): T {
    return values[this.#below(values.length)] ?? values[0]
  }

  #rollout(): Partial<Rollout> {
    return {
      canary: this.#below(3),
      batch: 1 + this.#below(3),
      settleSeconds: this.#below(2),
      deadlineSeconds: 10,
      maxFailures: this.#below(2),
      onFailure: this.#oneOf(['halt', 'rollback']),
      pauseAfter: this.#oneOf([null, null, null, 'canary', 'batch']),
    }
  }

  #pushes(tag: ChaosTag, isLost: boolean): Step[] {
    const count = isLost ? 3 : this.#isChosen(0.35) ? 2 : 1
    return Array.from(
      { length: count },
      (_, index): Step => ({
        kind: 'push',
        at: index === 0 ? this.#below(300) : index * 500 + this.#below(1500),
        tag,
        behaviour: this.#isChosen(0.65) ? 'steady' : this.#oneOf(KERNEL_BEHAVIOURS),
      }),
    )
  }

  #fault(agents: number, simulated: number, servers: number): Step {
    const at = this.#below(CAUSES_MILLISECONDS)
    const down = this.#below(DOWN_MILLISECONDS_MAX)
    const chance = this.#random()
    if (chance < 0.15) return { kind: 'kill server', at, server: this.#below(servers), down }
    if (chance < 0.3) return { kind: 'kill Postgres', at, down }
    if (chance < 0.36) {
      return { kind: 'kill everything', at, down: this.#below(AWAY_MILLISECONDS_MAX) }
    }
    if (chance < 0.42) return { kind: 'kill kernel', at, agent: this.#below(agents), unit: 0 }
    if (chance < 0.5) {
      return { kind: 'kill simulated host', at, host: this.#below(simulated), down }
    }
    return {
      kind: 'kill agent',
      ...{ at, down, agent: this.#below(agents), unit: this.#below(2) },
      killed: this.#oneOf(KILLED),
      stage: this.#isChosen(0.75) ? this.#oneOf(STAGES) : undefined,
    }
  }

  #action(): Step {
    const at = 300 + this.#below(CAUSES_MILLISECONDS)
    const tag = this.#oneOf(TAGS)
    const kind = this.#oneOf<'pause' | 'cancel' | 'retry'>(['pause', 'cancel', 'retry'])
    return kind === 'pause' ? { kind, at, tag, down: this.#below(1_500) } : { kind, at, tag }
  }
}
