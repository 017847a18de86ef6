import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { type BlobStore, StoreUnavailableError } from '../storage/blob-store.ts'
import { FilesystemStore } from '../storage/filesystem/filesystem-store.ts'
import { StartError } from './cleanup.ts'

export type StoreName = 'filesystem' | 's3'

/** A store and what lets go of it. */
export type OpenBlobStore = { readonly name: StoreName; readonly store: BlobStore; close(): void }

/** The store that the configuration names. Throws StartError. */
export function openBlobStore(config: Config, dataFolder: string): Promise<OpenBlobStore> {
  return openBlobStoreNamed(config.s3 === undefined ? 'filesystem' : 's3', config, dataFolder)
}

/** Either store, whichever one is in use: bytes are copied from one to the other. Throws StartError. */
export async function openBlobStoreNamed(
  name: StoreName,
  { s3 }: Config,
  dataFolder: string,
): Promise<OpenBlobStore> {
  if (name === 'filesystem') {
    return { name, store: await FilesystemStore.open(dataFolder), close: () => {} }
  }
  if (s3 === undefined) throw new StartError('ROOKERY_S3_BUCKET must name the bucket')
  // The SDK takes a tenth of a second and 30 MiB, which only those pay who use it.
  const { S3Store } = await import('../storage/s3/s3-store.ts')
  try {
    const store = await S3Store.open({ ...s3, spoolFolder: join(dataFolder, 'spool') })
    return { name, store, close: () => store.close() }
  } catch (cause) {
    if (!(cause instanceof StoreUnavailableError)) throw cause
    throw new StartError(
      `cannot write to the bucket ${s3.bucket}: ${cause.message}; the ROOKERY_S3_* settings say where it is, and AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY (or the SDK's other places) who asks`,
      { cause },
    )
  }
}
