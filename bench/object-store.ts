/** The S3 server that all compared servers share: Ceph's RADOS gateway, which stores everything in memory. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import {
  CreateBucketCommand,
  DeleteObjectsCommand,
  ListObjectsV2Command,
  type ListObjectsV2CommandOutput,
  S3Client,
} from '@aws-sdk/client-s3'
import { Child, findFreePort } from './child.ts'

const SCRIPT = fileURLToPath(new URL('../scripts/start-rgw.sh', import.meta.url))
/** The most that the gateway may store; the rows stay below it. */
export const OBJECT_STORE_BYTES_MAX = 6 * 1024 ** 3
export const REGION = 'us-east-1'
const PAGES_MAX = 1000
const COLLECT_MILLISECONDS_MAX = 60_000

const run = promisify(execFile)

/** The bucket of a server, and its access key. */
export interface Bucket {
  endpoint: string
  bucket: string
  accessKeyId: string
  secretAccessKey: string
}

type Access = Omit<Bucket, 'bucket'>

/** Returns the environment with a bucket's credentials, without those of the caller. */
export function environmentOf(bucket: Bucket | undefined): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(ROOKERY|AWS)_/.test(name))
  return {
    ...Object.fromEntries(inherited),
    ...(bucket && {
      AWS_ACCESS_KEY_ID: bucket.accessKeyId,
      AWS_SECRET_ACCESS_KEY: bucket.secretAccessKey,
    }),
  }
}

/** A running gateway. */
export class ObjectStore {
  readonly #child: Child
  readonly #folder: string
  readonly #access: Access
  readonly #client: S3Client

  private constructor(child: Child, folder: string, access: Access) {
    this.#child = child
    this.#folder = folder
    this.#access = access
    const { endpoint, accessKeyId, secretAccessKey } = access
    this.#client = new S3Client({
      endpoint,
      region: REGION,
      forcePathStyle: true,
      credentials: { accessKeyId, secretAccessKey },
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    })
  }

  static async start(folder: string): Promise<ObjectStore> {
    const port = await findFreePort()
    // It ends with its standard input, and therefore also when this process is killed.
    const child = new Child('bash', [SCRIPT, '--until-eof', folder, String(port)], {
      stdin: 'pipe',
      stdout: 'pipe',
      env: { ...process.env, RGW_MEMORY_BYTES: String(OBJECT_STORE_BYTES_MAX) },
    })
    const line = await child.until(
      folder,
      () => child.roots(),
      () => /^\{"endpoint".*\}$/m.exec(child.output)?.[0],
    )
    return new ObjectStore(child, folder, JSON.parse(line) as Access)
  }

  get exitReason(): string | undefined {
    return this.#child.exitReason
  }

  /** The root process of the gateway. */
  roots(): number[] {
    return this.#child.roots()
  }

  async createBucket(bucket: string): Promise<Bucket> {
    await this.#client.send(new CreateBucketCommand({ Bucket: bucket }))
    return { ...this.#access, bucket }
  }

  async listKeys({ bucket }: Bucket): Promise<Set<string>> {
    const keys = new Set<string>()
    let after: string | undefined
    for (let page = 0; page < PAGES_MAX; page++) {
      const answer: ListObjectsV2CommandOutput = await this.#client.send(
        new ListObjectsV2Command({ Bucket: bucket, ...(after && { ContinuationToken: after }) }),
      )
      for (const { Key } of answer.Contents ?? []) if (Key) keys.add(Key)
      after = answer.NextContinuationToken
      if (after === undefined) return keys
    }
    throw new Error(`${bucket} has more than ${PAGES_MAX} pages of objects`)
  }

  /** Removes all objects but the `kept` ones, to free memory for the next row. */
  async clear(bucket: Bucket, kept: ReadonlySet<string>): Promise<void> {
    const keys = [...(await this.listKeys(bucket))].filter((key) => !kept.has(key))
    for (let at = 0; at < keys.length; at += 1000) {
      const Objects = keys.slice(at, at + 1000).map((Key) => ({ Key }))
      const Delete = { Objects, Quiet: true }
      await this.#client.send(new DeleteObjectsCommand({ Bucket: bucket.bucket, Delete }))
    }
    // Without this, the gateway frees the memory of deleted objects an hour later.
    const conf = join(this.#folder, 'ceph.conf')
    const args = ['-c', conf, '-n', 'client.rgw', 'gc', 'process', '--include-all']
    await run('radosgw-admin', args, { timeout: COLLECT_MILLISECONDS_MAX })
  }

  async stop(): Promise<void> {
    this.#client.destroy()
    await this.#child.stop(this.roots())
  }
}
