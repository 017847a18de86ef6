import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { plan } from '../../src/deployments/plan.ts'
import { happenings, Model, rollouts } from './plan-model.ts'

const RUNS = { numRuns: 400 }
const scenes = fc.record({
  rollout: rollouts,
  count: fc.integer({ min: 0, max: 12 }),
  refused: fc.array(fc.nat({ max: 11 }), { maxLength: 2 }),
  events: happenings,
})
type Scene = typeof scenes extends fc.Arbitrary<infer T> ? T : never

/** Plays a scene with a round after each event, and calls `check` after each round. */
function play(
  { rollout, count, refused, events }: Scene,
  check: (model: Model, planned: ReturnType<Model['round']>) => void,
): Model {
  const model = new Model(rollout, count, refused)
  check(model, model.round())
  for (const event of events) {
    model.happens(event)
    check(model, model.round())
  }
  return model
}

const isAtOnce = ({ rollout }: Model) =>
  rollout.batch === null && parseInt(String(rollout.canary), 10) === 0

describe('in any order of reports, outages and time', () => {
  it('a round never grants more than the batch', () => {
    const property = fc.property(scenes, (scene) => {
      play(scene, (model, planned) => {
        const { batch } = model.rollout
        if (planned.grants.length === 0 || isAtOnce(model) || !model.isOpen) return
        const canaries = model.share(model.rollout.canary, Math.ceil)
        const places = batch === null ? Infinity : Math.max(1, model.share(batch, Math.floor))
        expect(model.occupied).toBeLessThanOrEqual(Math.max(canaries, places))
        if (model.settled >= canaries) expect(model.occupied).toBeLessThanOrEqual(places)
      })
    })
    fc.assert(property, RUNS)
  })

  it('the canaries come first, and alone', () => {
    const property = fc.property(scenes, (scene) => {
      // A share of canaries grows with the units that come later.
      fc.pre(typeof scene.rollout.canary === 'number' && scene.rollout.canary > 0)
      play(scene, (model, planned) => {
        const canaries = model.share(model.rollout.canary, Math.ceil)
        if (planned.grants.length === 0 || !model.isOpen || model.settled >= canaries) return
        const taken = model.targets.filter(
          ({ grantedAt, state }) =>
            grantedAt !== null && state !== 'offline' && state !== 'skipped',
        )
        expect(taken.length).toBeLessThanOrEqual(canaries)
      })
    })
    fc.assert(property, RUNS)
  })

  it('a failed canary ends the deployment before any other unit is granted', () => {
    const property = fc.property(scenes, fc.constantFrom('failed', 'rolled-back'), (scene, how) => {
      fc.pre(
        typeof scene.rollout.canary === 'number' && scene.rollout.canary > 0 && scene.count > 0,
      )
      const model = new Model(scene.rollout, scene.count)
      const [first] = model.round().grants
      model.happens({ kind: 'report', unit: first ?? 0, state: how })
      const planned = model.round()
      expect(planned.grants).toEqual([])
      expect(['failed', 'halted']).toContain(model.deployment.state)
      expect(model.deployment.rollbackDue).toBe(scene.rollout.onFailure === 'rollback')
      expect(model.count('waiting')).toBe(0)
    })
    fc.assert(property, RUNS)
  })

  it('grants follow the order of the rollout', () => {
    const property = fc.property(scenes, (scene) => {
      play(scene, (model, { grants }) => {
        if (!model.isOpen || grants.length === 0) return
        const last = Math.max(...grants)
        const passed = model.targets.slice(0, last).filter((one) => one.state === 'waiting')
        expect(passed).toEqual([])
      })
    })
    fc.assert(property, RUNS)
  })

  it('nothing is granted while it is paused, or after it ended otherwise than well', () => {
    const property = fc.property(scenes, (scene) => {
      let before = 'rolling'
      play(scene, (model, planned) => {
        if (['failed', 'halted', 'paused'].includes(before) && planned.state !== 'succeeded') {
          expect(planned.grants).toEqual([])
        }
        before = model.deployment.state === 'paused' ? 'rolling' : model.deployment.state
      })
    })
    fc.assert(property, RUNS)
  })

  it('a second round at the same time changes nothing', () => {
    const property = fc.property(scenes, (scene) => {
      play(scene, (model) => {
        const again = model.plan()
        expect({ ...again, reason: null }).toMatchObject({
          ...{ changes: [], grants: [], settled: [], withdrawals: [], reason: null },
          ...{ state: model.deployment.state, inReview: model.deployment.inReview },
        })
      })
    })
    fc.assert(property, RUNS)
  })

  it('no deadline passes unnoticed, and no open deployment sleeps for long', () => {
    const property = fc.property(scenes, (scene) => {
      play(scene, (model, { wakeAt }) => {
        for (const one of model.targets) {
          if (!['granted', 'fetching', 'starting', 'checking'].includes(one.state)) continue
          expect(one.deadlineAt).toBeGreaterThan(model.now)
          expect(wakeAt).toBeLessThanOrEqual(one.deadlineAt ?? 0)
        }
        if (!model.isOpen) return
        expect(wakeAt).toBeGreaterThan(model.now)
        expect(wakeAt).toBeLessThanOrEqual(model.now + 30_000)
      })
    })
    fc.assert(property, RUNS)
  })

  it('a host that is offline is no failure', () => {
    const property = fc.property(scenes, (scene) => {
      const quiet = scene.events.filter(
        (one) => one.kind === 'presence' || one.kind === 'newcomer' || one.kind === 'time',
      )
      // Without reports, a failure is a deadline that passed.
      const calm = quiet.filter((one) => one.kind !== 'time')
      const model = play({ ...scene, refused: [], events: calm }, () => {})
      expect(model.count('failed', 'rolled-back', 'overdue', 'refused')).toBe(0)
      expect(['rolling', 'paused', 'succeeded']).toContain(model.deployment.state)
    })
    fc.assert(property, RUNS)
  })

  it('the order in which the targets are read does not matter', () => {
    const property = fc.property(scenes, fc.infiniteStream(fc.nat()), (scene, numbers) => {
      play({ ...scene, events: scene.events.slice(0, 10) }, (model) => {
        const { deployment, rollout, targets, now } = model
        const shuffled = targets
          .map((one, index) => ({ one, index, key: numbers.next().value ?? 0 }))
          .sort((a, b) => a.key - b.key)
        const planned = plan({ deployment, rollout, now, targets: shuffled.map(({ one }) => one) })
        const places = planned.grants.map((index) => shuffled[index]?.index)
        expect(places).toEqual(plan({ deployment, rollout, targets, now }).grants)
      })
    })
    fc.assert(property, RUNS)
  })
})

it('every deployment ends once its hosts conclude or stay silent, and somebody resumes it', () => {
  const property = fc.property(scenes, (scene) => {
    const model = play(scene, () => {})
    const { settleSeconds, deadlineSeconds } = model.rollout
    // Everybody returns, and nobody reports: each grant is overdue by its deadline.
    for (const one of model.targets) if (one.presence === 'offline') one.presence = 'online'
    const rounds = 4 * model.targets.length + 4
    for (let round = 0; round < rounds && model.isOpen; round += 1) {
      model.happens({ kind: 'resume' })
      model.round()
      model.happens({ kind: 'time', seconds: Math.max(settleSeconds, deadlineSeconds) })
      model.round()
    }
    expect(model.isOpen).toBe(false)
    expect(model.count('waiting')).toBe(0)
    model.round()
    model.happens({ kind: 'time', seconds: Math.max(settleSeconds, deadlineSeconds) })
    model.round()
    expect(model.occupied).toBe(0)
    // Nothing of it has to be looked at again.
    expect(model.plan().wakeAt).toBe(null)
  })
  fc.assert(property, RUNS)
})

it('every deployment to healthy units succeeds', () => {
  const property = fc.property(rollouts, fc.integer({ min: 1, max: 30 }), (rollout, count) => {
    const model = new Model(rollout, count)
    for (let round = 0; round < 4 * count + 4 && model.isOpen; round += 1) {
      model.happens({ kind: 'resume' })
      for (const index of model.round().grants) {
        model.happens({ kind: 'report', unit: index, state: 'healthy' })
      }
      // The next round settles them, and grants others their places.
      model.happens({ kind: 'time', seconds: rollout.settleSeconds })
    }
    expect(model.deployment.state).toBe('succeeded')
    expect(model.settled).toBe(count)
  })
  fc.assert(property, RUNS)
})
