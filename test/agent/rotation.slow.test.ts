import { existsSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { rowsOf } from '../deployments/rows.ts'
import { makeCode } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { AgentHost, SHELLS } from './agent-host.ts'

const ROUNDS = 6
/** About as long as a rotation takes. */
const ROTATION_MILLISECONDS = 600

let registry: TestRegistry
let host: AgentHost

const key = () => readFile(join(host.folder, 'var/key.pem'), 'utf8')
const next = () => join(host.folder, 'var/key.next')
/** The fingerprint that the registry shows of the host. */
const fingerprint = async () => {
  const answer = await registry.request('/api/v1/hosts/web-1')
  return ((await answer.json()) as { fingerprint: string }).fingerprint
}
/** Asserts that the host gets a new token, and asks the registry with it. */
async function expectTrusted(): Promise<void> {
  await rm(join(host.folder, 'var/token'), { force: true })
  expect(await host.run('once')).toMatchObject({ status: 0 })
}

describe.each(SHELLS)('rookery-agent rotate under %s', (shell) => {
  beforeEach(async () => {
    registry = await startRegistry()
    host = await AgentHost.create(shell)
    const code = await makeCode(registry, { name: 'web-1', repositories: ['builds/*'] })
    await host.enrol(registry.url, code)
  })
  afterEach(async () => {
    await host.remove()
    await registry.close()
  })

  it('replaces the key, and prints the fingerprint that the registry shows', async () => {
    const before = await key()
    const { status, output } = await host.run('rotate')
    expect({ status, output }).toMatchObject({ status: 0 })
    const printed = /^web-1 has another key\. Its fingerprint: (\S+)\n$/.exec(output)?.[1]
    expect(printed).toBe(await fingerprint())
    expect(await key()).not.toBe(before)
    expect(existsSync(next())).toBe(false)
    await expectTrusted()
  })

  it('that is killed after the answer of the registry leaves a key that works, also when the overlap is over', async () => {
    const before = await key()
    const programs = join(host.folder, 'bin')
    await mkdir(programs)
    // In place of the rename that follows the answer.
    const mv = `#!/bin/sh\ncase $1 in */key.next) kill -9 "$PPID"; exit ;; esac\nexec /bin/mv "$@"\n`
    await writeFile(join(programs, 'mv'), mv, { mode: 0o755 })
    const shown = await fingerprint()
    host.environment = { PATH: `${programs}:${process.env.PATH}` }
    expect(await host.run('rotate')).toEqual({ status: null, output: '' })
    host.environment = {}
    expect(await fingerprint()).not.toBe(shown)
    await expectTrusted()
    expect(await key()).toBe(before)
    await rowsOf(
      registry,
      `update host_keys
          set ends_at = now() - interval '1 second'
        where ends_at is not null`,
    )
    const after = await readFile(next(), 'utf8')
    await expectTrusted()
    expect(await key()).toBe(after)
    expect(existsSync(next())).toBe(false)
  })

  it('that was interrupted is finished by the next one, with the key that was made', async () => {
    const before = await key()
    await host.run('rotate')
    const made = await key()
    const shown = await fingerprint()
    await rename(join(host.folder, 'var/key.pem'), next())
    await writeFile(join(host.folder, 'var/key.pem'), before, { mode: 0o600 })
    expect(await host.run('rotate')).toMatchObject({ status: 0 })
    expect(await key()).toBe(made)
    expect(await fingerprint()).toBe(shown)
    await expectTrusted()
  })

  it('that is killed at any time leaves a key that works', async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      await host.runAndKill(Math.random() * ROTATION_MILLISECONDS, 'rotate')
      await expectTrusted()
    }
  })

  it('that the registry refuses keeps the key', async () => {
    const before = await key()
    await registry.request('/api/v1/hosts/web-1', { method: 'DELETE' })
    const { status, output } = await host.run('rotate')
    expect({ status, output }).toMatchObject({
      status: 1,
      output: expect.stringContaining('the key was not replaced'),
    })
    expect(await key()).toBe(before)
  })
})
