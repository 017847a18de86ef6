import { describe, expect, it } from 'vitest'
import { Model, rolloutOf } from './plan-model.ts'

const careful = rolloutOf({ canary: 1, batch: 2, settleSeconds: 10, deadlineSeconds: 60 })

/** Lets all units in flight become healthy and settle. Returns what is granted then. */
function batchPasses(model: Model): readonly number[] {
  for (const [unit, { state }] of model.targets.entries()) {
    if (state === 'granted') model.happens({ kind: 'report', unit, state: 'healthy' })
  }
  model.round()
  model.happens({ kind: 'time', seconds: model.rollout.settleSeconds })
  return model.round().grants
}

describe('without a rollout', () => {
  it('all units are granted at once, also those that are offline', () => {
    const model = new Model(rolloutOf({}), 3)
    model.happens({ kind: 'presence', unit: 1, presence: 'offline' })
    expect(model.round().grants).toEqual([0, 1, 2])
    expect(model.targets.map(({ state }) => state)).toEqual(['granted', 'offline', 'granted'])
  })

  it('a unit that cannot run the image keeps no other from it, and the deployment fails at the end', () => {
    const model = new Model(rolloutOf({ settleSeconds: 0 }), 2, [0])
    expect(model.round().grants).toEqual([1])
    expect(model.deployment.state).toBe('rolling')
    model.happens({ kind: 'report', unit: 1, state: 'healthy' })
    model.round()
    expect(model.deployment).toMatchObject({
      ...{ state: 'failed', reason: 'www on h0 cannot run the image' },
    })
  })

  it('one failure is the end, and the others that are in flight are observed further', () => {
    const model = new Model(rolloutOf({ deadlineSeconds: 60 }), 3)
    model.round()
    model.happens({ kind: 'report', unit: 1, state: 'failed' })
    expect(model.round().wakeAt).toBe(model.now + 60_000)
    expect(model.deployment).toMatchObject({ state: 'failed', reason: 'www on h1 failed' })
    model.happens({ kind: 'report', unit: 0, state: 'healthy' })
    model.happens({ kind: 'time', seconds: 60 })
    expect(model.round().wakeAt).toBe(null)
    expect(model.targets.map(({ state }) => state)).toEqual(['healthy', 'failed', 'overdue'])
  })

  it('a deployment to units that are all offline stays open until one returns', () => {
    const model = new Model(rolloutOf({ settleSeconds: 0 }), 2)
    for (const unit of [0, 1]) model.happens({ kind: 'presence', unit, presence: 'offline' })
    model.round()
    model.happens({ kind: 'time', seconds: 86_400 })
    model.round()
    expect(model.deployment.state).toBe('rolling')
    model.happens({ kind: 'report', unit: 1, state: 'healthy' })
    model.round()
    expect(model.deployment.state).toBe('succeeded')
    expect(model.deployment.reason).toContain('1 unit offline')
  })

  it('a deployment to no unit succeeds', () => {
    const model = new Model(rolloutOf({}), 0)
    model.round()
    expect(model.deployment).toMatchObject({ state: 'succeeded', reason: 'no unit takes part' })
  })
})

describe('with a canary and batches', () => {
  it('grants the canary, and then as many as settle', () => {
    const model = new Model(careful, 6)
    expect(model.round().grants).toEqual([0])
    expect(batchPasses(model)).toEqual([1, 2])
    model.happens({ kind: 'report', unit: 1, state: 'healthy' })
    model.round()
    model.happens({ kind: 'time', seconds: 10 })
    expect(model.round().grants).toEqual([3])
    expect(batchPasses(model)).toEqual([4, 5])
    expect(batchPasses(model)).toEqual([])
    expect(model.deployment.state).toBe('succeeded')
  })

  it('a healthy report is no reason to continue before the unit has settled', () => {
    const model = new Model(careful, 3)
    model.round()
    model.happens({ kind: 'report', unit: 0, state: 'healthy' })
    expect(model.round().grants).toEqual([])
    model.happens({ kind: 'time', seconds: 9 })
    model.happens({ kind: 'report', unit: 0, state: 'failed' })
    model.round()
    expect(model.deployment).toMatchObject({
      ...{ state: 'halted', reason: 'the canary www on h0 failed' },
    })
    expect(model.targets.map(({ state }) => state)).toEqual(['failed', 'skipped', 'skipped'])
  })

  it('a failed canary is the end also when failures are allowed, and later failures are counted', () => {
    const lenient = { ...careful, maxFailures: '50%' as const }
    const strict = new Model(lenient, 4)
    strict.round()
    strict.happens({ kind: 'report', unit: 0, state: 'rolled-back' })
    strict.round()
    expect(strict.deployment.reason).toBe('the canary www on h0 was rolled back')
    const model = new Model(lenient, 4)
    model.round()
    batchPasses(model)
    model.happens({ kind: 'report', unit: 1, state: 'failed' })
    model.happens({ kind: 'report', unit: 2, state: 'failed' })
    expect(model.round().grants).toEqual([3])
    batchPasses(model)
    expect(model.deployment.state).toBe('succeeded')
  })

  it('a canary that returns beside its substitute opens no batch', () => {
    const model = new Model(rolloutOf({ canary: 1, deadlineSeconds: 60 }), 3)
    expect(model.round().grants).toEqual([0])
    model.happens({ kind: 'presence', unit: 0, presence: 'offline' })
    expect(model.round().grants).toEqual([1])
    model.happens({ kind: 'report', unit: 0, state: 'fetching' })
    expect(model.round().grants).toEqual([])
    model.happens({ kind: 'report', unit: 0, state: 'failed' })
    expect(model.round().grants).toEqual([])
    expect(model.deployment.reason).toBe('the canary www on h0 failed')
  })

  it('a canary that is offline is passed over by the next in the order', () => {
    const model = new Model(careful, 4)
    model.happens({ kind: 'presence', unit: 0, presence: 'offline' })
    expect(model.round().grants).toEqual([1])
    model.happens({ kind: 'presence', unit: 1, presence: 'offline' })
    expect(model.round().grants).toEqual([2])
    expect(batchPasses(model)).toEqual([3])
  })

  it('units that stayed offline get the image at the end, and are no failure', () => {
    const model = new Model(careful, 3)
    model.happens({ kind: 'presence', unit: 2, presence: 'offline' })
    model.round()
    expect(batchPasses(model)).toEqual([1])
    expect(batchPasses(model)).toEqual([2])
    expect(model.deployment.state).toBe('succeeded')
    expect(model.targets[2]?.state).toBe('offline')
  })

  it('a unit whose host went offline in the update does not get a bad image when it returns', () => {
    const model = new Model(careful, 4)
    model.round()
    batchPasses(model)
    model.happens({ kind: 'presence', unit: 1, presence: 'offline' })
    expect(model.round().grants).toEqual([3])
    model.happens({ kind: 'report', unit: 2, state: 'failed' })
    expect(model.round().withdrawals).toEqual([1])
    expect(model.targets[1]?.state).toBe('skipped')
  })

  it('a unit that is silent until its deadline is overdue, and halts it', () => {
    const model = new Model(careful, 2)
    expect(model.round().wakeAt).toBe(model.now + 5_000)
    model.happens({ kind: 'time', seconds: 60 })
    expect(model.round().changes).toContainEqual(
      expect.objectContaining({ index: 0, state: 'overdue', reason: 'deadline' }),
    )
    expect(model.deployment.reason).toBe('the canary www on h0 did not conclude in time')
  })

  it('an image that some units cannot run is halted before any unit gets it', () => {
    const model = new Model(careful, 3, [2])
    expect(model.round().grants).toEqual([])
    expect(model.deployment).toMatchObject({
      ...{ state: 'halted', reason: 'www on h2 cannot run the image' },
    })
  })

  it('a failure moves the tag back when the rollout says so', () => {
    const model = new Model({ ...careful, onFailure: 'rollback' }, 3)
    model.round()
    model.happens({ kind: 'report', unit: 0, state: 'failed' })
    model.round()
    expect(model.deployment).toMatchObject({ state: 'failed', rollbackDue: true })
  })

  it('a share is rounded so that a canary is at least one unit, and a batch no more than the share', () => {
    const model = new Model(rolloutOf({ canary: '1%', batch: '20%', settleSeconds: 1 }), 14)
    expect(model.round().grants).toEqual([0])
    expect(batchPasses(model)).toEqual([1, 2])
  })
})

describe('with reviews', () => {
  it('pauses after the canary until somebody resumes it', () => {
    const model = new Model({ ...careful, pauseAfter: 'canary' }, 4)
    model.round()
    expect(batchPasses(model)).toEqual([])
    expect(model.deployment).toMatchObject({
      ...{ state: 'paused', inReview: true, reason: 'the canary is done: resume to continue' },
    })
    model.happens({ kind: 'time', seconds: 1000 })
    expect(model.round().grants).toEqual([])
    model.happens({ kind: 'resume' })
    expect(model.round().grants).toEqual([1, 2])
    expect(batchPasses(model)).toEqual([3])
  })

  it('pauses after each batch, and a pause of a person is no review', () => {
    const model = new Model({ ...careful, pauseAfter: 'batch' }, 5)
    model.round()
    batchPasses(model)
    model.happens({ kind: 'resume' })
    expect(model.round().grants).toEqual([1, 2])
    model.happens({ kind: 'pause' })
    expect(batchPasses(model)).toEqual([])
    model.happens({ kind: 'resume' })
    expect(model.round().grants).toEqual([])
    expect(model.deployment).toMatchObject({ state: 'paused', inReview: true })
    model.happens({ kind: 'resume' })
    expect(model.round().grants).toEqual([3, 4])
    batchPasses(model)
    // Nothing is left to review.
    expect(model.deployment.state).toBe('succeeded')
  })
})
