import { afterAll, expect, it } from 'vitest'
import { createBucket, openS3Store } from '../support/s3.ts'
import { describeBlobStore } from './blob-store.contract.ts'

const plain = await openS3Store()
const other = await openS3Store({ prefix: 'some/where/', checksums: 'when_supported' })
afterAll(async () => {
  await plain.close()
  await other.close()
})

describeBlobStore('S3Store', async () => plain.store)
describeBlobStore('S3Store with a prefix and checksums', async () => other.store)

it('servers that start on one new bucket do not see each other as bytes of others', async () => {
  const bucket = await createBucket()
  const first = await openS3Store({ bucket })
  const starts = Array.from({ length: 8 }, () => openS3Store({ bucket }))
  let isStarting = true
  const started = Promise.all(starts).finally(() => {
    isStarting = false
  })
  const seen: string[] = []
  while (isStarting) {
    for await (const { name } of first.store.list('')) seen.push(name)
  }
  await Promise.all([first, ...(await started)].map(({ close }) => close()))
  expect(seen).toEqual([])
})
