import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { PLACES } from '../clients/client-sandbox.ts'
import { ROOT } from './tree.ts'

/** Programs that the tests need for a client, and the receiver of webhooks. */
const PARTS = new Set([
  ...['dockerd', 'docker-buildx', 'docker-compose', 'runc', 'webhook'],
  ...['caddy', 'nginx', 'chromium'],
])
/** The program that a test asks for, when it is not the client's own name. */
const ASKED_BY: Record<string, string> = { ctr: 'containerd' }
/** Every machine has it. */
const OF_THE_SYSTEM = 'curl'

const text = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const tests = readdirSync(join(ROOT, 'test/clients'))
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => text(`test/clients/${file}`))
  .join('\n')

const [, sentence = ''] =
  /((?:`[a-z]+`,\s+)+`[a-z]+` and\s+`[a-z]+`) work with it/.exec(text('README.md')) ?? []
const named = [...sentence.matchAll(/`([a-z]+)`/g)].map(([, name = '']) => name).sort()

describe('the clients that README.md names', () => {
  it('are those in the table of docs/clients.md', () => {
    const [, table = ''] = text('docs/clients.md').split('| client |')
    const rows = table.split('\n\n')[0]?.matchAll(/^\| `([a-z]+)` \|/gm) ?? []
    expect([...rows].map(([, name = '']) => name).sort()).toEqual(named)
  })

  it('are those that the tests of clients run', () => {
    const run = Object.keys(PLACES).filter((name) => !PARTS.has(name))
    const asked = named.filter((name) => name !== OF_THE_SYSTEM)
    expect(asked.map((name) => ASKED_BY[name] ?? name).sort()).toEqual(run.sort())
    for (const name of run) expect(tests).toMatch(new RegExp(`hasClient[^;]*'?${name}\\b`))
    expect(tests).toContain('sandbox.curl(')
  })

  it('are those that scripts/get-clients.sh fetches', () => {
    const [, table = ''] = text('scripts/get-clients.sh').split("TABLE='\n")
    const programs = table
      .split("\n'")[0]
      ?.split('\n')
      .flatMap((row) => row.split(/\s+/)[3]?.split(',') ?? [])
      .map((program) => program.split('=')[0])
    for (const name of named.filter((one) => one !== OF_THE_SYSTEM))
      expect(programs).toContain(name)
  })
})
