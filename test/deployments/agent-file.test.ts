import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const AGENT = new URL('../../agent/rookery-agent', import.meta.url)
const DOWNLOAD =
  'curl -fsSL "$1/agent" -o rookery-agent && curl -fsSL "$1/agent.sha256" | sha256sum -c'

let registry: TestRegistry
let folder: string

beforeAll(async () => {
  registry = await startRegistry()
  folder = await mkdtemp(join(tmpdir(), 'rookery-test-agent-'))
})
afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
  await registry.close()
})

it('anybody gets the agent of hosts from the registry, and compares its checksum', async () => {
  const run = promisify(execFile)
  const { stdout } = await run('sh', ['-c', DOWNLOAD, 'sh', registry.url], { cwd: folder })
  expect(stdout).toBe('rookery-agent: OK\n')
  expect(await readFile(join(folder, 'rookery-agent'))).toEqual(await readFile(AGENT))
})

it('a host that has the agent gets no bytes', async () => {
  for (const path of ['/agent', '/agent.sha256']) {
    const first = await registry.anonymous(path)
    expect(first.headers.get('content-type')).toBe('text/plain; charset=utf-8')
    const headers = { 'if-none-match': first.headers.get('etag') ?? '' }
    const again = await registry.anonymous(path, { headers })
    expect([again.status, await again.text()]).toEqual([304, ''])
  }
})
