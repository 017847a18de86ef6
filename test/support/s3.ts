import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateBucketCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3'
import { inject } from 'vitest'
import { type S3Options, S3Store } from '../../src/storage/s3/s3-store.ts'

/** A running S3 server, and a credential with all rights on it. */
export type TestS3 = {
  readonly endpoint: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
}

/** Returns the S3 server of this run. Throws in a run without one. */
export function s3Server(): TestS3 {
  const s3 = inject('s3')
  if (s3 === undefined) throw new Error('this test runs in a project with an S3 server')
  return s3
}

export function s3Client({ endpoint, accessKeyId, secretAccessKey }: TestS3): S3Client {
  return new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  })
}

/** Counts the objects of a bucket, up to 1000. */
export async function countObjects(bucket: string, s3 = s3Server()): Promise<number> {
  const client = s3Client(s3)
  const { KeyCount } = await client.send(new ListObjectsV2Command({ Bucket: bucket }))
  client.destroy()
  return KeyCount ?? 0
}

/** Creates a bucket. */
export async function createBucket(s3 = s3Server()): Promise<string> {
  const bucket = `test-${randomBytes(8).toString('hex')}`
  const client = s3Client(s3)
  await client.send(new CreateBucketCommand({ Bucket: bucket }))
  client.destroy()
  return bucket
}

/** The environment variables that the SDK reads first. */
export function s3Environment({ accessKeyId, secretAccessKey }: TestS3): Record<string, string> {
  return { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey }
}

/** Opens a store in a bucket of its own. */
export async function openS3Store(
  more: Partial<S3Options> = {},
): Promise<{ store: S3Store; bucket: string; close(): Promise<void> }> {
  const s3 = s3Server()
  Object.assign(process.env, s3Environment(s3))
  const bucket = await createBucket(s3)
  const folder = await mkdtemp(join(tmpdir(), 'rookery-spool-'))
  const store = await S3Store.open({
    bucket,
    prefix: '',
    endpoint: s3.endpoint,
    region: 'us-east-1',
    pathStyle: true,
    checksums: 'when_required',
    publicEndpoint: undefined,
    redirect: false,
    timeoutSeconds: 20,
    spoolFolder: folder,
    ...more,
  })
  return {
    store,
    bucket,
    async close() {
      store.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** Returns the settings of a registry for a bucket. */
export function s3Settings(bucket: string, s3 = s3Server()): Record<string, string> {
  // The SDK reads these in its own process: this one, or that of a server.
  Object.assign(process.env, s3Environment(s3))
  return { ROOKERY_S3_BUCKET: bucket, ROOKERY_S3_ENDPOINT: s3.endpoint }
}

/** Returns the settings of a registry for a new store of the kind that the project names. */
export async function storeSettings(): Promise<Record<string, string>> {
  const store = process.env.TEST_STORE ?? 'filesystem'
  if (store === 'filesystem') return {}
  const settings = s3Settings(await createBucket())
  if (store === 's3') return settings
  // Clients remove their credential on a redirect to another host; for Go another port is the same
  // host.
  const publicEndpoint = s3Server().endpoint.replace('127.0.0.1', 'localhost')
  return {
    ...settings,
    ROOKERY_S3_REDIRECT: 'on',
    ROOKERY_S3_PUBLIC_ENDPOINT: publicEndpoint,
  }
}

const CLIENTS_KEEP = ['docker-content-digest', 'docker-distribution-api-version', 'etag']

/**
 * Follows a redirect to the store as clients do: with their Range, and without the credential,
 * which is for another origin. The second answer gets the headers that a client keeps from the
 * first.
 */
export async function followLink(
  answer: Response,
  headers: Readonly<Record<string, string>>,
): Promise<Response> {
  await answer.arrayBuffer()
  const range = headers.range ?? headers.Range
  const location = answer.headers.get('location') ?? ''
  const found = await fetch(location, range === undefined ? {} : { headers: { range } })
  const merged = new Headers(found.headers)
  for (const name of CLIENTS_KEEP) {
    const value = answer.headers.get(name)
    if (value !== null) merged.set(name, value)
  }
  return new Response(found.body, { status: found.status, headers: merged })
}
