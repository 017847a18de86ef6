import { randomBytes, randomUUID } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import type { BlobStore, Stage, StoredObject } from '../../src/storage/blob-store.ts'

export async function* chunksOf(...chunks: (Buffer | Error)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) {
    if (chunk instanceof Error) throw chunk
    yield chunk
  }
}

export async function collected(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = []
  // Copies each chunk, because its memory is reused.
  for await (const chunk of chunks) copies.push(Buffer.from(chunk))
  return Buffer.concat(copies)
}

/** The contract of every BlobStore. The test file of each implementation calls it. */
export function describeBlobStore(name: string, open: () => Promise<BlobStore>): void {
  async function staged(store: BlobStore, bytes: Buffer): Promise<Stage> {
    return (await store.append(await store.stage(randomUUID()), 0, chunksOf(bytes), true)).stage
  }

  async function stored(store: BlobStore, bytes: Buffer): Promise<string> {
    return store.commit(await staged(store, bytes), bytes.length, digestOf(bytes))
  }

  async function held(store: BlobStore, after = ''): Promise<StoredObject[]> {
    const found: StoredObject[] = []
    for await (const one of store.list(after)) found.push(one)
    return found
  }

  /** Lists the objects of one upload in the store. */
  async function heldOf(store: BlobStore, upload: string): Promise<StoredObject[]> {
    return (await held(store)).filter((one) => one.upload === upload)
  }

  describe(`${name} as a BlobStore`, () => {
    it.each([1, 1000, 262_144, 262_145, 1_048_576, 5_000_001, 8_388_608, 20_000_001])(
      'returns %i bytes, whole and in ranges',
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

    it('returns the right bytes to many slow readers at once', async () => {
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

    it('never returns a key twice, even for the same bytes', async () => {
      const store = await open()
      const bytes = randomBytes(10)
      const [first, second] = [await stored(store, bytes), await stored(store, bytes)]
      expect(first).not.toBe(second)
      await store.remove(first)
      expect(await store.stat(first)).toBeUndefined()
      expect(await store.stat(second)).toBe(10)
      await store.remove(first)
    })

    it('throws BlobMissingError for a key whose bytes are missing', async () => {
      const store = await open()
      const key = await stored(store, randomBytes(10))
      await store.remove(key)
      const reading = collected(store.read(key, { start: 0, end: 9 }))
      await expect(reading).rejects.toMatchObject({ name: 'BlobMissingError' })
    })

    it.each([
      ['small pieces', [5, 299_995, 400_000]],
      ['pieces around the size of a part', [8_388_607, 1, 8_388_609, 3]],
      ['one piece and nothing more', [1000, 0]],
      ['parts and then a little', [9_000_000, 9_000_000, 1]],
    ])('appends %s', async (_pieces, sizes) => {
      const store = await open()
      const bytes = randomBytes(sizes.reduce((sum, size) => sum + size, 0))
      const id = randomUUID()
      let stage = await store.stage(id)
      let size = 0
      for (const [index, length] of sizes.entries()) {
        const piece = bytes.subarray(size, size + length)
        const last = index === sizes.length - 1
        const appended = await store.append(stage, size, chunksOf(piece), last)
        await store.discard(stage, appended.stage)
        // The registry stores a stage as JSON.
        stage = JSON.parse(JSON.stringify(appended.stage)) as Stage
        size = appended.size
      }
      expect(size).toBe(bytes.length)
      const key = await store.commit(stage, size, digestOf(bytes))
      const read = await collected(store.read(key, { start: 0, end: size - 1 }))
      expect(read.equals(bytes)).toBe(true)
      expect(await heldOf(store, id)).toMatchObject([{ key, size }])
    })

    it.each([2_000_000, 20_000_000])(
      'counts nothing of an append that failed after %i bytes, and continues at the previous size',
      async (failingBytes) => {
        const store = await open()
        const id = randomUUID()
        const empty = await store.stage(id)
        const { stage } = await store.append(empty, 0, chunksOf(Buffer.from('first ')), false)
        const failing = chunksOf(randomBytes(failingBytes), new Error('the client went away'))
        await expect(store.append(stage, 6, failing, true)).rejects.toThrow('the client went away')
        const appended = await store.append(stage, 6, chunksOf(Buffer.from('second')), true)
        await store.discard(stage, appended.stage)
        const bytes = Buffer.from('first second')
        const key = await store.commit(appended.stage, appended.size, digestOf(bytes))
        expect(await store.stat(key)).toBe(12)
        expect(await collected(store.read(key, { start: 0, end: 11 }))).toEqual(bytes)
        expect(await heldOf(store, id)).toMatchObject([{ key }])
      },
    )

    it('undoes an append that is discarded', async () => {
      const store = await open()
      const id = randomUUID()
      const empty = await store.stage(id)
      const { stage } = await store.append(empty, 0, chunksOf(Buffer.from('first ')), false)
      const bytes = randomBytes(17_000_000)
      const unwanted = await store.append(stage, 6, chunksOf(bytes), true)
      await store.discard(unwanted.stage, stage)
      const right = await store.append(stage, 6, chunksOf(Buffer.from('second')), true)
      await store.discard(stage, right.stage)
      const key = await store.commit(right.stage, 12, digestOf(Buffer.from('first second')))
      expect(String(await collected(store.read(key, { start: 0, end: 11 })))).toBe('first second')
      expect(await heldOf(store, id)).toMatchObject([{ key, size: 12 }])
    })

    it.each([5, 9_000_000])('leaves nothing of a discarded upload of %i bytes', async (bytes) => {
      const store = await open()
      const id = randomUUID()
      const empty = await store.stage(id)
      const { stage } = await store.append(empty, 0, chunksOf(randomBytes(bytes)), false)
      expect(await heldOf(store, id)).not.toEqual([])
      await store.cleanUp(id, undefined, undefined)
      expect(await heldOf(store, id)).toEqual([])
      await store.cleanUp(id, undefined, undefined)
      const lost = store.append(stage, bytes, chunksOf(randomBytes(10)), false)
      await expect(lost).rejects.toMatchObject({ name: 'StageLostError' })
    })

    it.each([5, 9_000_000])(
      'cleans up unrecorded bytes of an upload of %i bytes, and keeps the blob',
      async (bytes) => {
        const store = await open()
        const id = randomUUID()
        const content = randomBytes(bytes)
        const digest = digestOf(content)
        const commit = async () => {
          const { stage } = await store.append(await store.stage(id), 0, chunksOf(content), true)
          return store.commit(stage, bytes, digest)
        }
        const [lost, kept, other] = [await commit(), await commit(), await stored(store, content)]
        await store.append(await store.stage(id), 0, chunksOf(randomBytes(bytes)), false)
        await store.cleanUp(id, digest, kept)
        expect(await heldOf(store, id)).toMatchObject([{ key: kept }])
        expect(await store.stat(lost)).toBeUndefined()
        expect(await store.stat(other)).toBe(bytes)
        await store.cleanUp(id, digest, undefined)
        expect(await heldOf(store, id)).toEqual([])
      },
    )

    it('throws StageLostError when acknowledged bytes are missing', async () => {
      const store = await open()
      for (const size of [5, 9_000_000]) {
        const id = randomUUID()
        const empty = await store.stage(id)
        const { stage } = await store.append(empty, 0, chunksOf(randomBytes(size)), false)
        await store.cleanUp(id, undefined, undefined)
        const more = chunksOf(randomBytes(10))
        const lost = { name: 'StageLostError' }
        await expect(store.append(stage, size, more, true)).rejects.toMatchObject(lost)
        await expect(finish(store, stage, size)).rejects.toMatchObject(lost)
        await expect(finish(store, stage, size + 1)).rejects.toMatchObject(lost)
      }
    })

    async function finish(store: BlobStore, stage: Stage, size: number): Promise<string> {
      const appended = await store.append(stage, size, chunksOf(), true)
      return store.commit(appended.stage, appended.size, digestOf(Buffer.from('')))
    }

    it('treats the stage of another store as lost, and discards nothing for it', async () => {
      const store = await open()
      const foreign = { store: 'other', place: '../../etc/passwd', file: '../x', id: 'x' }
      const lost = { name: 'StageLostError' }
      await expect(store.append(foreign, 0, chunksOf(), true)).rejects.toMatchObject(lost)
      await expect(store.fence(foreign, 0)).rejects.toMatchObject(lost)
      await store.discard(foreign, foreign)
      await store.discard(foreign, await store.stage(randomUUID()))
    })

    it.each([5, 9_000_000])(
      'fences off a writer that may still be writing after %i bytes',
      async (size) => {
        const store = await open()
        const bytes = randomBytes(size + 8_400_000)
        const empty = await store.stage(randomUUID())
        const first = chunksOf(bytes.subarray(0, size))
        const old = (await store.append(empty, 0, first, false)).stage
        const fenced = await store.fence(old, size)
        await store.discard(old, fenced)
        const rest = chunksOf(bytes.subarray(size))
        const now = (await store.append(fenced, size, rest, true)).stage
        // It may fail, but must not change the stage.
        await store.append(old, size, chunksOf(randomBytes(8_400_000)), true).catch(() => {})
        try {
          const key = await store.commit(now, bytes.length, digestOf(bytes))
          const read = await collected(store.read(key, { start: 0, end: bytes.length - 1 }))
          expect(read.equals(bytes)).toBe(true)
        } catch (error) {
          expect(error).toMatchObject({ name: 'StageLostError' })
        }
      },
    )

    it.each([0, 10, 17_000_000])('puts %i bytes under a key of any store', async (size) => {
      const store = await open()
      const bytes = randomBytes(size)
      const hex = digestOf(bytes).slice('sha256:'.length)
      for (const key of [
        `sha256/${hex.slice(0, 2)}/${hex}.0123456789abcdef`,
        `sha256/${hex.slice(0, 2)}/${hex}.${randomUUID()}-01234567`,
        `written/ab/${randomUUID()}-01234567`,
      ]) {
        const failing = chunksOf(bytes, new Error('the disk broke'))
        await expect(store.put(key, failing)).rejects.toThrow('the disk broke')
        expect(await store.stat(key)).toBeUndefined()
        await store.put(key, chunksOf(bytes))
        expect(await store.stat(key)).toBe(size)
        if (size > 0) {
          const read = await collected(store.read(key, { start: 0, end: size - 1 }))
          expect(read.equals(bytes)).toBe(true)
        }
        await store.remove(key)
      }
    })

    it('lists its objects after any name, and removes them', async () => {
      const store = await open()
      const keys = await Promise.all(
        Array.from({ length: 5 }, () => stored(store, randomBytes(10))),
      )
      const id = randomUUID()
      await store.append(await store.stage(id), 0, chunksOf(randomBytes(9_000_000)), false)
      const all = await held(store)
      const names = all.map((one) => one.name)
      expect(new Set(names).size).toBe(names.length)
      for (const key of keys) {
        const one = all.find((candidate) => candidate.key === key)
        expect(one).toMatchObject({ size: 10 })
        expect(Math.abs(Date.now() - Number(one?.modifiedAt))).toBeLessThan(60_000)
      }
      for (const index of [0, Math.floor(names.length / 2), names.length - 1]) {
        const rest = (await held(store, names[index])).map((one) => one.name)
        expect(rest).toEqual(names.slice(index + 1))
      }
      for (const one of await heldOf(store, id)) await store.removeObject(one)
      expect(await heldOf(store, id)).toEqual([])
    })

    it('keeps a mark, which is no blob', async () => {
      const store = await open()
      await stored(store, randomBytes(10))
      const before = await held(store)
      for (const mark of ['the first', 'another']) {
        await store.writeMark(mark)
        expect(await store.readMark()).toBe(mark)
      }
      expect(await held(store)).toEqual(before)
      for (const one of await held(store)) await store.removeObject(one)
      expect(await store.readMark()).toBe('another')
      await expect(store.stat('installation')).rejects.toThrow('not a storage key')
    })

    it('throws BlobMissingError for every range of bytes that were cut off', async () => {
      const store = await open()
      const key = await stored(store, randomBytes(300_000))
      await store.put(key, chunksOf(randomBytes(100_000)))
      for (const [start, end] of [
        [0, 299_999],
        [99_999, 100_000],
        [100_000, 100_001],
        [250_000, 299_999],
      ] as const) {
        const reading = collected(store.read(key, { start, end }))
        await expect(reading, `${start}`).rejects.toMatchObject({ name: 'BlobMissingError' })
      }
    })

    it('is writable', async () => {
      await expect((await open()).check()).resolves.toBeUndefined()
    })
  })
}
