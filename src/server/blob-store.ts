import { join } from 'node:path'
import type { Config } from '../config/config.ts'
import { type BlobStore, StoreUnavailableError } from '../storage/blob-store.ts'
import { FilesystemStore } from '../storage/filesystem/filesystem-store.ts'
import type { StoreCall } from '../storage/s3/observe.ts'
import { StartError } from './cleanup.ts'

export type StoreName = 'filesystem' | 's3'

/** An open store, with the function that closes it. */
export type OpenBlobStore = { readonly name: StoreName; readonly store: BlobStore; close(): void }

/** Receives each call of an object store. */
export type OnStoreCall = (call: StoreCall) => void

/** Opens the configured store. Throws StartError. */
export function openBlobStore(
  config: Config,
  dataFolder: string,
  onCall?: OnStoreCall,
): Promise<OpenBlobStore> {
  const name = config.s3 === undefined ? 'filesystem' : 's3'
  return openBlobStoreNamed(name, config, dataFolder, onCall)
}

/** Opens a store by its name, configured or not: for copies from one to the other. Throws StartError. */
export async function openBlobStoreNamed(
  name: StoreName,
  { s3 }: Config,
  dataFolder: string,
  onCall?: OnStoreCall,
): Promise<OpenBlobStore> {
  if (name === 'filesystem') {
    return { name, store: await FilesystemStore.open(dataFolder), close: () => {} }
  }
  if (s3 === undefined) throw new StartError('ROOKERY_S3_BUCKET must name the bucket')
  // Loaded only when used, because the SDK takes a tenth of a second and 30 MiB.
  const { S3Store } = await import('../storage/s3/s3-store.ts')
  try {
    const store = await S3Store.open({ ...s3, spoolFolder: join(dataFolder, 'spool'), onCall })
    return { name, store, close: () => store.close() }
  } catch (cause) {
    if (!(cause instanceof StoreUnavailableError)) throw cause
    throw new StartError(
      `cannot write to the bucket ${s3.bucket}: ${cause.message}; check the ROOKERY_S3_* settings for its address, and AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY (or the SDK's other sources) for the credentials`,
      { cause },
    )
  }
}
