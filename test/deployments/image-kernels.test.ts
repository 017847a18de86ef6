import { expect, it } from 'vitest'
import type { Queryable } from '../../src/db/database.ts'
import { ImageKernelsCache } from '../../src/deployments/image-kernels.ts'

const image = (name: string) => ({ repository: 'a/b', digest: `sha256:${name}` })

/** A database that answers each read with the images that it asks for, when `release` is called. */
function slowDatabase() {
  const reads: string[][] = []
  const waiting: (() => void)[] = []
  const db = {
    async query(_text: string, [repositories, digests]: [string[], string[]]) {
      reads.push(digests)
      await new Promise<void>((resolve) => waiting.push(resolve))
      const rows = digests.map((digest, index) => ({
        ...{ repository: repositories[index], digest },
        ...{ kernels: [], isPending: false, problem: null },
      }))
      return { rows }
    },
  }
  const release = () => {
    for (const resolve of waiting.splice(0)) resolve()
  }
  return { db: db as unknown as Queryable, reads, release }
}

it('a thousand hosts that ask for an image at the same time share one read', async () => {
  const { db, reads, release } = slowDatabase()
  const kernels = new ImageKernelsCache(db)
  const found = Array.from({ length: 1000 }, () => kernels.load([image('one')]))
  found.push(kernels.load([image('one'), image('two')]))
  release()
  for (const find of await Promise.all(found)) {
    expect(find(image('one'))).toMatchObject({ isPending: false })
  }
  expect((await found.at(-1))?.(image('two'))).toBeDefined()
  expect(reads).toEqual([['sha256:one'], ['sha256:two']])
  await kernels.load([image('one'), image('two')])
  expect(reads).toHaveLength(2)
})

it('a transaction reads with its own connection, and waits for no other', async () => {
  const pool = slowDatabase()
  const own = slowDatabase()
  const kernels = new ImageKernelsCache(pool.db)
  const waits = kernels.load([image('one')])
  const within = kernels.loadWithin(own.db, [image('one')])
  own.release()
  expect((await within)(image('one'))).toBeDefined()
  expect([pool.reads.length, own.reads.length]).toEqual([1, 1])
  pool.release()
  await waits
})
