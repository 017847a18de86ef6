import { afterAll } from 'vitest'
import { openS3Store } from '../support/s3.ts'
import { describeBlobStore } from './blob-store.contract.ts'

const plain = await openS3Store()
const other = await openS3Store({ prefix: 'some/where/', checksums: 'when_supported' })
afterAll(async () => {
  await plain.close()
  await other.close()
})

describeBlobStore('S3Store', async () => plain.store)
describeBlobStore('S3Store with a prefix and checksums', async () => other.store)
