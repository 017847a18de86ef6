import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TestProject } from 'vitest/node'
import { freePorts } from './free-ports.ts'
import type { TestS3 } from './s3.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    s3: TestS3 | undefined
  }
}

const SCRIPTS = { rgw: 'start-rgw.sh', swift: 'start-swift.sh' } as const
const START_MILLISECONDS_MAX = 90_000

let child: ChildProcess | undefined
let folder: string | undefined

/** Starts one real S3 server for the whole run: Ceph's, unless S3_SERVER names another. */
export async function setup(project: TestProject): Promise<void> {
  const name = process.env.S3_SERVER ?? 'rgw'
  const script = SCRIPTS[name as keyof typeof SCRIPTS]
  if (script === undefined) throw new Error(`S3_SERVER is rgw or swift, not ${name}`)
  folder = await mkdtemp(join(tmpdir(), 'rookery-s3-'))
  const path = fileURLToPath(new URL(`../../scripts/${script}`, import.meta.url))
  const [port] = await freePorts(1)
  // It ends with its standard input, so also when this process is killed.
  child = spawn(path, ['--until-eof', folder, String(port)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  project.provide('s3', await readLine(child))
}

/** Stops the server and deletes its files. */
export async function teardown(): Promise<void> {
  if (child !== undefined && child.exitCode === null) {
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await ended
  }
  if (folder !== undefined) await rm(folder, { recursive: true, force: true, maxRetries: 3 })
}

async function readLine(from: ChildProcess): Promise<TestS3> {
  let text = ''
  const timer = setTimeout(() => from.kill('SIGTERM'), START_MILLISECONDS_MAX)
  from.stdout?.setEncoding('utf8')
  for await (const chunk of from.stdout ?? []) {
    text += chunk
    if (text.includes('\n')) break
  }
  clearTimeout(timer)
  if (!text.includes('\n')) throw new Error('the S3 server did not start; it says why above')
  return JSON.parse(text) as TestS3
}
