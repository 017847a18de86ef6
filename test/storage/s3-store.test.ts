import { afterAll } from 'vitest'
import { openS3Store } from '../support/s3.ts'
import { describeBlobStore } from './blob-store.contract.ts'

const opened = await openS3Store()
afterAll(() => opened.close())

describeBlobStore('S3Store', async () => opened.store)
