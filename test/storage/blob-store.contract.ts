import { randomBytes, randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import type { BlobStore, Stage } from '../../src/storage/blob-store.ts'

export async function* chunksOf(...chunks: (Buffer | Error)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) {
    if (chunk instanceof Error) throw chunk
    yield chunk
  }
}

export async function collected(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = []
  // A chunk's memory is used again, so each is copied.
  for await (const chunk of chunks) copies.push(Buffer.from(chunk))
  return Buffer.concat(copies)
}

/** What every BlobStore must do. Each implementation's own test file calls it. */
export function describeBlobStore(name: string, open: () => Promise<BlobStore>): void {
  async function staged(store: BlobStore, bytes: Buffer): Promise<Stage> {
    return (await store.append(await store.stage(randomUUID()), 0, chunksOf(bytes))).stage
  }

  async function stored(store: BlobStore, bytes: Buffer): Promise<string> {
    return store.commit(await staged(store, bytes), bytes.length, digestOf(bytes))
  }

  describe(`${name} as a BlobStore`, () => {
    it.each([1, 1000, 262_144, 262_145, 1_048_576, 5_000_001])(
      'gives back %i bytes, whole and in ranges',
      async (size) => {
        const store = await open()
        const bytes = randomBytes(size)
        const key = await stored(store, bytes)
        expect(await store.stat(key)).toBe(size)
        for (const [start, end] of [
          [0, size - 1],
          [0, 0],
          [size - 1, size - 1],
          [Math.floor(size / 3), Math.floor((2 * size) / 3)],
        ] as const) {
          const read = await collected(store.read(key, { start, end }))
          expect(read.equals(bytes.subarray(start, end + 1))).toBe(true)
        }
      },
    )

    it('keeps an empty blob', async () => {
      const store = await open()
      expect(await store.stat(await stored(store, Buffer.alloc(0)))).toBe(0)
    })

    it('gives right bytes to many slow readers at once', async () => {
      const store = await open()
      const bytes = randomBytes(3_000_000)
      const key = await stored(store, bytes)
      const readers = Array.from({ length: 24 }, async () => {
        const copies: Buffer[] = []
        for await (const chunk of store.read(key, { start: 0, end: bytes.length - 1 })) {
          await new Promise((resolve) => setImmediate(resolve))
          copies.push(Buffer.from(chunk))
        }
        return Buffer.concat(copies).equals(bytes)
      })
      expect(await Promise.all(readers)).toEqual(readers.map(() => true))
    })

    it('never gives a key twice, also for the same bytes', async () => {
      const store = await open()
      const bytes = randomBytes(10)
      const [first, second] = [await stored(store, bytes), await stored(store, bytes)]
      expect(first).not.toBe(second)
      await store.remove(first)
      expect(await store.stat(first)).toBeUndefined()
      expect(await store.stat(second)).toBe(10)
      await store.remove(first)
    })

    it('throws BlobMissing for a key whose bytes are gone', async () => {
      const store = await open()
      const key = await stored(store, randomBytes(10))
      await store.remove(key)
      const reading = collected(store.read(key, { start: 0, end: 9 }))
      await expect(reading).rejects.toMatchObject({ name: 'BlobMissing' })
    })

    it('appends in pieces, and reads a stage', async () => {
      const store = await open()
      const bytes = randomBytes(700_000)
      let stage = await store.stage(randomUUID())
      let size = 0
      for (const piece of [
        bytes.subarray(0, 5),
        bytes.subarray(5, 300_000),
        bytes.subarray(300_000),
      ]) {
        ;({ stage, size } = await store.append(stage, size, chunksOf(piece)))
      }
      expect(size).toBe(bytes.length)
      // A bookmark travels as JSON.
      const travelled = JSON.parse(JSON.stringify(stage)) as Stage
      expect((await collected(store.readStage(travelled, size))).equals(bytes)).toBe(true)
      const key = await store.commit(travelled, size, digestOf(bytes))
      expect((await collected(store.read(key, { start: 0, end: size - 1 }))).equals(bytes)).toBe(
        true,
      )
    })

    it('counts nothing of an append that failed, and goes on from before', async () => {
      const store = await open()
      const stage = await staged(store, Buffer.from('first '))
      const failing = chunksOf(randomBytes(2_000_000), new Error('the client went away'))
      await expect(store.append(stage, 6, failing)).rejects.toThrow('the client went away')
      const appended = await store.append(stage, 6, chunksOf(Buffer.from('second')))
      const bytes = Buffer.from('first second')
      const key = await store.commit(appended.stage, appended.size, digestOf(bytes))
      expect(await store.stat(key)).toBe(12)
      expect(await collected(store.read(key, { start: 0, end: 11 }))).toEqual(bytes)
    })

    it('says StageLost when acknowledged bytes are gone', async () => {
      const store = await open()
      const stage = await staged(store, Buffer.from('first'))
      await store.discard(stage)
      const digest = digestOf(Buffer.from('first'))
      const lost = { name: 'StageLost' }
      await expect(store.append(stage, 5, chunksOf())).rejects.toMatchObject(lost)
      await expect(collected(store.readStage(stage, 5))).rejects.toMatchObject(lost)
      await expect(store.commit(stage, 5, digest)).rejects.toMatchObject(lost)
      await store.discard(stage)
    })

    it('fences off a writer that may still be writing', async () => {
      const store = await open()
      const old = await staged(store, Buffer.from('first'))
      const fenced = await store.fence(old, 5, randomUUID())
      await store.append(old, 0, chunksOf(Buffer.from('WRONG and late')))
      const key = await store.commit(fenced, 5, digestOf(Buffer.from('first')))
      expect(String(await collected(store.read(key, { start: 0, end: 4 })))).toBe('first')
    })

    it('can be written to', async () => {
      await expect((await open()).check()).resolves.toBeUndefined()
    })
  })
}
