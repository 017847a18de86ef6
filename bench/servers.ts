/** Starts and stops the servers to compare. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Child, findFreePort } from './child.ts'
import { type Bucket, environmentOf, REGION } from './object-store.ts'
import { findPostmasters } from './processes.ts'

const SDK_SERVER = fileURLToPath(new URL('sdk-server.ts', import.meta.url))
/** The repository that the rows pull from. */
export const PULL_REPOSITORY = 'bench/app'
const TOKEN_SECONDS = '86400'
const LISTENING = /http:\/\/127\.0\.0\.1:[1-9]\d*/

/** The servers, in the order in which each row measures them. */
export const PEER_NAMES = ['docker-registry', 'rookery', 'sdk', 'sdk-unsigned'] as const
/** Rookery, built from another commit. */
export const BEFORE = 'rookery-before'
export const SERVER_NAMES = [...PEER_NAMES, BEFORE] as const
export type ServerName = (typeof SERVER_NAMES)[number]

/** A running server. */
export class Server {
  readonly name: ServerName
  readonly origin: string
  /** Header lines that authorize pushes. */
  readonly credentials: string
  /** Header lines with a token; empty for a server without tokens. */
  readonly bearer: string
  readonly #child: Child
  readonly #folder: string

  constructor(
    name: ServerName,
    origin: string,
    child: Child,
    folder: string,
    { credentials = '', bearer = '' } = {},
  ) {
    this.name = name
    this.origin = origin
    this.credentials = credentials
    this.bearer = bearer
    this.#child = child
    this.#folder = folder
  }

  /** True when it supports manifests and tags. */
  get isRegistry(): boolean {
    return !this.name.startsWith('sdk')
  }

  get mainPid(): number {
    return this.#child.pid
  }

  /** The reason why the server ended; undefined while it runs. */
  get exitReason(): string | undefined {
    return this.#child.exitReason
  }

  /** The root processes of this server. */
  roots(): number[] {
    return rootsOf(this.#child, this.#folder)
  }

  stop(): Promise<void> {
    return this.#child.stop(this.roots())
  }
}

function rootsOf(child: Child, folder: string): number[] {
  return [...child.roots(), ...findPostmasters(join(folder, 'postgres'))]
}

/** Returns the version of docker-registry; undefined when it is not installed. */
export function findDockerRegistry(): string | undefined {
  try {
    return execFileSync('docker-registry', ['--version'], { encoding: 'utf8' }).trim()
  } catch {
    return undefined
  }
}

function dockerStorage(folder: string, bucket: Bucket | undefined): Record<string, unknown> {
  if (!bucket) return { filesystem: { rootdirectory: join(folder, 'storage') } }
  return {
    s3: {
      region: REGION,
      regionendpoint: bucket.endpoint,
      bucket: bucket.bucket,
      accesskey: bucket.accessKeyId,
      secretkey: bucket.secretAccessKey,
      secure: false,
      v4auth: true,
    },
    // Both servers send the bytes themselves.
    redirect: { disable: true },
  }
}

/** Starts docker-registry with deletes, without authorization and without an access log. */
export async function startDockerRegistry(folder: string, bucket?: Bucket): Promise<Server> {
  const port = await findFreePort()
  const origin = `http://127.0.0.1:${port}`
  mkdirSync(folder, { recursive: true })
  const config = join(folder, 'config.yml')
  writeFileSync(
    config,
    JSON.stringify({
      version: 0.1,
      log: { level: 'error' },
      storage: { ...dockerStorage(folder, bucket), delete: { enabled: true } },
      http: { addr: `127.0.0.1:${port}` },
    }),
  )
  const env = environmentOf(undefined)
  const child = new Child('docker-registry', ['serve', config], { stdout: 'ignore', env })
  await child.until(
    folder,
    () => child.roots(),
    async () => {
      const answer = await fetch(`${origin}/v2/`).catch(() => undefined)
      return answer?.status === 200 ? true : undefined
    },
  )
  return new Server('docker-registry', origin, child, folder)
}

export interface RookeryOptions {
  main: string
  name?: 'rookery' | typeof BEFORE
  nodeArguments?: string[]
  /** Blobs are files without a bucket. */
  bucket?: Bucket | undefined
  /** Further settings. */
  settings?: Readonly<Record<string, string>>
}

/** Starts the built server with its defaults and an embedded Postgres. */
export async function startRookery(
  folder: string,
  { main, name = 'rookery', nodeArguments = [], bucket, settings = {} }: RookeryOptions,
): Promise<Server> {
  const password = randomBytes(18).toString('base64url')
  const env = {
    ...environmentOf(bucket),
    ROOKERY_LISTEN: '127.0.0.1:0',
    ROOKERY_DATA_DIR: folder,
    ROOKERY_ADMIN_PASSWORD: password,
    ROOKERY_TOKEN_SECONDS: TOKEN_SECONDS,
    ...(bucket && {
      ROOKERY_S3_BUCKET: bucket.bucket,
      ROOKERY_S3_ENDPOINT: bucket.endpoint,
    }),
    ...settings,
  }
  const args = [...nodeArguments, main, 'serve']
  const child = new Child(process.execPath, args, { stdout: 'pipe', env })
  const roots = () => rootsOf(child, folder)
  const origin = await child.until(folder, roots, () => LISTENING.exec(child.output)?.[0])
  const basic = Buffer.from(`admin:${password}`).toString('base64')
  const credentials = `Authorization: Basic ${basic}\r\n`
  const bearer = `Authorization: Bearer ${await fetchToken(origin, basic)}\r\n`
  return new Server(name, origin, child, folder, { credentials, bearer })
}

/** Fetches a token that lives as long as the bench. */
async function fetchToken(origin: string, basic: string): Promise<string> {
  const scope = encodeURIComponent(`repository:${PULL_REPOSITORY}:pull`)
  const answer = await fetch(`${origin}/token?scope=${scope}`, {
    headers: { authorization: `Basic ${basic}` },
  })
  return ((await answer.json()) as { token: string }).token
}

/** Starts the SDK server, which hashes each body to sign it, or excludes bodies from the signature. */
export async function startSdkServer(
  folder: string,
  name: 'sdk' | 'sdk-unsigned',
  bucket: Bucket,
): Promise<Server> {
  const bodies = name === 'sdk' ? 'signed' : 'unsigned'
  const args = ['--import', 'tsx', SDK_SERVER, bucket.endpoint, bucket.bucket, bodies]
  const env = environmentOf(bucket)
  const child = new Child(process.execPath, args, { stdout: 'pipe', env })
  const origin = await child.until(
    folder,
    () => child.roots(),
    () => LISTENING.exec(child.output)?.[0],
  )
  return new Server(name, origin, child, folder)
}
