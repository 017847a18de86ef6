import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { send } from '../support/push.ts'
import type { Fault, Operation, Times } from './fault-proxy.ts'
import {
  beginPush,
  expectPulled,
  expectUnavailable,
  type Faulty,
  finishPush,
  look,
  pushAgain,
  REFUSED_SECONDS_MAX,
  type Size,
  startFaulty,
  untilAvailable,
  type Way,
  within,
} from './faulty-store.ts'

let faulty: Faulty

beforeAll(async () => {
  faulty = await startFaulty()
})

afterAll(async () => {
  await faulty.close()
})

type Passing = readonly [Operation, Fault, Times, Size, Way]

describe('a push succeeds although the store fails temporarily:', () => {
  it.each<Passing>([
    ['PutObject', '500', { first: 2 }, 'small', 'PUT'],
    ['PutObject', 'slow down', { first: 1 }, 'small', 'PATCH'],
    ['PutObject', 'cut', { first: 1 }, 'small', 'PUT'],
    ['PutObject', 'cut the request', { first: 1 }, 'small', 'PUT'],
    ['PutObject', 'lose the answer', { first: 1 }, 'small', 'PUT'],
    ['PutObject', 'cut the answer', { first: 1 }, 'small', 'PATCH'],
    ['PutObject', 'hang', { first: 1 }, 'small', 'PUT'],
    ['GetObject', '500', { first: 1 }, 'small', 'PATCH'],
    ['GetObject', 'cut the answer', { first: 1 }, 'large', 'PATCH'],
    ['CreateMultipartUpload', '500', { first: 2 }, 'large', 'PUT'],
    ['CreateMultipartUpload', 'cut', { first: 1 }, 'large', 'PUT'],
    ['UploadPart', '500', { nth: 2 }, 'large', 'PUT'],
    ['UploadPart', 'slow down', { first: 1 }, 'large', 'PATCH'],
    ['UploadPart', 'cut the request', { nth: 2 }, 'large', 'PUT'],
    ['UploadPart', 'lose the answer', { nth: 3 }, 'large', 'PUT'],
    ['CompleteMultipartUpload', '500', { first: 2 }, 'large', 'PUT'],
    ['CompleteMultipartUpload', 'lose the answer', { first: 1 }, 'large', 'PUT'],
    ['CompleteMultipartUpload', 'cut the answer', { first: 1 }, 'large', 'PATCH'],
    ['CompleteMultipartUpload', '200 and an error', { first: 1 }, 'large', 'PUT'],
  ])('%s, %s, %j: %s by %s', async (operation, fault, times, size, way) => {
    const { registry, proxy } = faulty
    const injected = proxy.inject(fault, operation, times)
    const push = await beginPush(registry, size, way)
    const answer = await finishPush(registry, push)
    expect({ status: answer.status, text: await answer.text() }).toEqual({ status: 201, text: '' })
    expect(injected.met).toBeGreaterThan(0)
    proxy.clear()
    await expectPulled(registry, push)
    expect(await faulty.leftBehind()).toEqual([])
  })
})

type Lasting = readonly [Operation | undefined, Fault, Size, Way]

const LASTING: readonly Lasting[] = [
  ['PutObject', '500', 'small', 'PUT'],
  ['PutObject', 'forbidden', 'small', 'PATCH'],
  ['PutObject', 'cut the request', 'small', 'PUT'],
  ['GetObject', '500', 'small', 'PATCH'],
  ['CreateMultipartUpload', '500', 'large', 'PUT'],
  ['UploadPart', 'slow down', 'large', 'PUT'],
  ['UploadPart', 'cut the request', 'large', 'PATCH'],
  ['CompleteMultipartUpload', '500', 'large', 'PATCH'],
  ['CompleteMultipartUpload', '200 and an error', 'large', 'PATCH'],
  ['CompleteMultipartUpload', 'lose the answer', 'large', 'PATCH'],
  [undefined, '500', 'small', 'PATCH'],
  [undefined, 'cut', 'large', 'PUT'],
]

describe('a push is refused with 503 while the store fails:', () => {
  it.each(LASTING)('%s, %s: %s by %s; the client goes on afterwards', async (...lasting) => {
    const [operation, fault, size, way] = lasting
    const { registry, proxy } = faulty
    const push = await beginPush(registry, size, way)
    const injected = proxy.inject(fault, operation)
    await expectUnavailable(await within(REFUSED_SECONDS_MAX, () => finishPush(registry, push)))
    expect(injected.met).toBeGreaterThan(0)
    expect(await look(registry, push)).toBe(404)
    proxy.clear()
    await pushAgain(registry, push)
    await expectPulled(registry, push)
    expect(await faulty.leftBehind()).toEqual([])
  })

  it('every call fails, and the client does not retry', async () => {
    const { registry, proxy } = faulty
    for (const [operation, fault, size, way] of LASTING) {
      const push = await beginPush(registry, size, way)
      proxy.inject(fault, operation)
      await expectUnavailable(await finishPush(registry, push))
      proxy.clear()
      expect(await look(registry, push)).toBe(404)
    }
    expect(await faulty.leftBehind()).toEqual([])
  })

  it.each<readonly [Operation | undefined, Fault, Size]>([
    ['PutObject', '500', 'small'],
    ['UploadPart', '500', 'large'],
    ['CompleteMultipartUpload', 'lose the answer', 'large'],
    [undefined, 'cut', 'small'],
  ])('%s, %s: %s in one POST', async (operation, fault, size) => {
    const { registry, proxy } = faulty
    const { bytes, repository } = await beginPush(registry, size, 'PUT')
    const path = `/v2/${repository}/blobs/uploads/?digest=${digestOf(bytes)}`
    proxy.inject(fault, operation)
    const refused = await within(REFUSED_SECONDS_MAX, () => send(registry, 'POST', path, bytes))
    await expectUnavailable(refused)
    proxy.clear()
    const again = await untilAvailable(() => send(registry, 'POST', path, bytes))
    expect({ status: again.status, text: await again.text() }).toMatchObject({ status: 201 })
    expect(await faulty.leftBehind()).toEqual([])
  })

  it('concurrent pushes whose calls of one kind hang', async () => {
    const { registry, proxy } = faulty
    const begun = await Promise.all(
      HANGING.map(async ([operation, size, way]) => {
        const push = await beginPush(registry, size, way)
        // The name of an object has the id of the upload that wrote it.
        const id = push.location.split('/').at(-1)
        return { push, injected: proxy.inject('hang', new RegExp(`^${operation} .*/${id}-`)) }
      }),
    )
    await within(REFUSED_SECONDS_MAX, () =>
      Promise.all(
        begun.map(async ({ push }) => expectUnavailable(await finishPush(registry, push))),
      ),
    )
    for (const { push, injected } of begun) {
      expect(injected.met).toBeGreaterThan(0)
      expect(await look(registry, push)).toBe(404)
    }
    proxy.clear()
    for (const { push } of begun) {
      await pushAgain(registry, push)
      await expectPulled(registry, push)
    }
    expect(await faulty.leftBehind()).toEqual([])
  })
})

const HANGING: readonly (readonly [Operation, Size, Way])[] = [
  ['PutObject', 'small', 'PUT'],
  ['GetObject', 'large', 'PATCH'],
  ['CreateMultipartUpload', 'large', 'PUT'],
  ['UploadPart', 'large', 'PATCH'],
  ['CompleteMultipartUpload', 'large', 'PATCH'],
]
