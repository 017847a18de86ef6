import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { vi } from 'vitest'
import { type Config, parseConfig } from '../../src/config/config.ts'
import { openBlobStore } from '../../src/server/blob-store.ts'
import { createLog } from '../../src/server/log.ts'
import { startServer } from '../../src/server/server.ts'
import type { StoredObject } from '../../src/storage/blob-store.ts'
import { createTestDatabase } from './database.ts'
import { followLink, storeSettings } from './s3.ts'

export type TestRegistry = {
  readonly url: string
  readonly folder: string
  readonly databaseUrl: string
  readonly password: string
  /** Its environment: another server with the same settings shares everything. */
  readonly settings: Readonly<Record<string, string>>
  /** Every log line so far. */
  readonly log: string[]
  /** Lists every object in its store. */
  storedObjects(): Promise<StoredObject[]>
  /** Sends a request as the administrator. */
  request(path: string, init?: RequestInit): Promise<Response>
  /** Sends a request without a credential. */
  anonymous(path: string, init?: RequestInit): Promise<Response>
  close(): Promise<void>
}

const STALL_MILLISECONDS_MAX = 30_000

async function listStore(config: Config, folder: string): Promise<StoredObject[]> {
  const opened = await openBlobStore(config, folder)
  try {
    const found: StoredObject[] = []
    for await (const one of opened.store.list('')) found.push(one)
    return found
  } finally {
    opened.close()
  }
}

/**
 * Starts a whole registry in this process: real HTTP on a free port, its own database, and a folder
 * or a bucket of its own, according to the project of the run.
 */
export async function startRegistry(settings: Record<string, string> = {}): Promise<TestRegistry> {
  const database = await createTestDatabase()
  const folder = await mkdtemp(join(tmpdir(), 'rookery-test-'))
  const password = randomBytes(12).toString('base64url')
  const lines: string[] = []
  const destination = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  const environment = {
    ROOKERY_LISTEN: '127.0.0.1:0',
    ROOKERY_DATA_DIR: folder,
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_ADMIN_PASSWORD: password,
    ROOKERY_LOG_LEVEL: 'info',
    ROOKERY_DRAIN_SECONDS: '2',
    ...(await storeSettings()),
    ...settings,
  }
  const config = parseConfig(environment)
  const server = await startServer(config, createLog(config.logLevel, destination), (error) => {
    throw error
  })
  const follows = process.env.TEST_STORE === 's3-redirect'
  const authorization = `Basic ${Buffer.from(`admin:${password}`).toString('base64')}`
  const ask = async (path: string, init: RequestInit = {}, more: Record<string, string> = {}) => {
    const headers = { ...more, ...(init.headers as Record<string, string> | undefined) }
    const answer = await fetch(new URL(path, server.url), { redirect: 'manual', ...init, headers })
    return follows && answer.status === 307 ? followLink(answer, headers) : answer
  }
  return {
    url: server.url,
    folder,
    databaseUrl: database.url,
    password,
    settings: environment,
    log: lines,
    async storedObjects() {
      // A registry with short limits may have one here, and the object store of a busy machine sometimes stalls.
      return vi.waitFor(() => listStore(config, folder), { timeout: STALL_MILLISECONDS_MAX })
    },
    request: (path, init) => ask(path, init, { authorization }),
    anonymous: (path, init) => ask(path, init),
    async close() {
      await server.close()
      await database.drop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
