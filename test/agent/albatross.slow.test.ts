import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { AgentHost } from './agent-host.ts'
import { FakeRegistry } from './fake-registry.ts'

/**
 * The part of albatross-client that the agent calls: `create` starts any kernel, and one with the word `broken` ends at
 * once; `info` prints the digest of what runs, and `console` its lines.
 */
const CLIENT = `#!/bin/sh
echo "$*" >> "$ALBATROSS/calls"
case $1 in
  create)
    for kernel; do :; done
    rm -f "$ALBATROSS/digest"
    cp "$kernel" "$ALBATROSS/console"
    grep -q broken "$kernel" || sha256sum < "$kernel" | cut -d' ' -f1 > "$ALBATROSS/digest" ;;
  info) echo "cpu 0 32 MB memory digest $(cat "$ALBATROSS/digest" 2>/dev/null)" ;;
  console)
    cat "$ALBATROSS/console"
    sleep 60 ;;
  destroy) rm -f "$ALBATROSS/digest" ;;
esac
`

let registry: FakeRegistry
let host: AgentHost

beforeEach(async () => {
  registry = await new FakeRegistry().start()
  host = await AgentHost.create()
  const [programs, albatross] = [join(host.folder, 'bin'), join(host.folder, 'albatross')]
  await mkdir(programs)
  await mkdir(albatross)
  await writeFile(join(programs, 'albatross-client'), CLIENT, { mode: 0o755 })
  host.environment = { PATH: `${programs}:${process.env.PATH}`, ALBATROSS: albatross }
  await host.enrol(registry.url)
  await host.unit('www', { runner: 'albatross', options: '--mem=64 --net=service', start: '' })
})

afterEach(async () => {
  await host.remove()
  await registry.stop()
})

it('the albatross runner creates a unikernel, and restores the one before', async () => {
  host.start()
  const { kernel } = registry.want('www', 'version 1')
  await host.until(() => registry.last('www')?.state === 'healthy', 'version 1 is healthy')
  registry.want('www', 'broken: version 2')
  await host.until(() => registry.last('www')?.state === 'rolled-back', 'version 1 is back')
  expect(registry.last('www')).toMatchObject({ kernel, reason: 'ended', log: 'broken: version 2' })
  const calls = await readFile(join(host.folder, 'albatross/calls'), 'utf8')
  const path = host.state('www', 'kernel')
  const creates = calls.split('\n').filter((line) => line.startsWith('create'))
  expect(new Set(creates)).toEqual(new Set([`create --force --mem=64 --net=service www ${path}`]))
  expect(creates).toHaveLength(3)
})
