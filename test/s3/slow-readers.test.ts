import { randomBytes, randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { openS3Store } from '../support/s3.ts'

const MIB = 1024 * 1024
/** More than there are connections to the store. */
const READERS = 120
// A connection without traffic is closed after 20 seconds, which is too late for the others.
const SERVED_MILLISECONDS_MAX = 15_000

it('clients that do not read take no connection to the store from others', async () => {
  const { store, close } = await openS3Store({ timeoutSeconds: 60 })
  const bytes = randomBytes(12 * MIB)
  async function* chunks() {
    yield bytes
  }
  const write = async () => {
    const { stage } = await store.append(await store.stage(randomUUID()), 0, chunks(), true)
    return store.commit(stage, bytes.length, digestOf(bytes))
  }
  const key = await write()
  const read = () => store.read(key, { start: 0, end: bytes.length - 1 })[Symbol.asyncIterator]()
  const readers = Array.from({ length: READERS }, read)

  // Each gets its first bytes, and then no more are requested for it.
  const startedAt = performance.now()
  const firsts = await Promise.all(
    readers.map(async (one) => Buffer.from((await one.next()).value ?? '')),
  )
  await write()
  expect(await store.stat(key)).toBe(bytes.length)
  expect(performance.now() - startedAt).toBeLessThan(SERVED_MILLISECONDS_MAX)

  // A reader that continues gets every byte.
  await new Promise((resolve) => setTimeout(resolve, 2_500))
  for (const index of [0, READERS - 1]) {
    const received = firsts.slice(index, index + 1)
    for await (const chunk of { [Symbol.asyncIterator]: () => readers[index] ?? read() }) {
      received.push(Buffer.from(chunk))
    }
    expect(Buffer.concat(received).equals(bytes)).toBe(true)
  }
  await Promise.all(readers.map((one) => one.return?.(undefined)))
  await close()
}, 120_000)
