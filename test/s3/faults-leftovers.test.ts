import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rookery } from '../cli/rookery.ts'
import type { Fault, Matching, Times } from './fault-proxy.ts'
import {
  beginPush,
  expectPulled,
  expectUnavailable,
  type Faulty,
  finishPush,
  pushAgain,
  type Size,
  startFaulty,
  unnamed,
  type Way,
} from './faulty-store.ts'

type Case = {
  readonly name: string
  readonly faults: readonly (readonly [Fault, Matching, Times?])[]
  readonly size: Size
  readonly way: Way
}

/** Faults after which the store has bytes that the upload's row does not list. */
const CASES: readonly Case[] = [
  {
    name: 'the answer of CreateMultipartUpload was lost once',
    faults: [['lose the answer', 'CreateMultipartUpload', { first: 1 }]],
    size: 'large',
    way: 'PUT',
  },
  {
    name: 'every answer of PutObject was lost',
    faults: [['lose the answer', 'PutObject']],
    size: 'small',
    way: 'PUT',
  },
  {
    name: 'CompleteMultipartUpload failed',
    faults: [['500', 'CompleteMultipartUpload']],
    size: 'large',
    way: 'PUT',
  },
  {
    name: 'every answer of CompleteMultipartUpload was lost',
    faults: [['lose the answer', 'CompleteMultipartUpload']],
    size: 'large',
    way: 'PUT',
  },
  {
    name: 'the store failed from the first part on',
    faults: [['cut', /^(?:UploadPart|AbortMultipartUpload) /]],
    size: 'large',
    way: 'PUT',
  },
  {
    name: 'a chunk was acknowledged, and what it replaced could not be removed',
    faults: [['500', 'DeleteObject']],
    size: 'small',
    way: 'PATCH',
  },
]

let faulty: Faulty

beforeAll(async () => {
  faulty = await startFaulty()
})

afterAll(async () => {
  await faulty.close()
})

async function pushThrough({ faults, size, way }: Case) {
  const { registry, proxy } = faulty
  const push = await beginPush(registry, size, way)
  for (const [fault, on, times] of faults) proxy.inject(fault, on, times)
  const answer = await finishPush(registry, push)
  proxy.clear()
  if (answer.status !== 201) {
    await expectUnavailable(answer)
    await pushAgain(registry, push)
  }
  await expectPulled(registry, push)
}

describe('a sweep finds all leftovers of a push that succeeded in the end, when', () => {
  it.each(CASES)('$name', async (one) => {
    const before = await unnamed(faulty.registry, faulty.sweeper.client)
    await pushThrough(one)
    const left = await faulty.leftBehind()
    expect(left.filter((name) => !before.includes(name))).toEqual([])
  })
})

it('a scrub finds no orphans after the sweeps', async () => {
  const { registry } = faulty
  const { stdout, status } = await rookery(registry, ['scrub', '--json', '--older-than', '0'])
  expect(JSON.parse(stdout)).toMatchObject({ orphans: 0, missing: 0, corrupt: 0 })
  expect(status).toBe(0)
})
