import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AGENT, AgentHost, SHELLS, steady } from './agent-host.ts'
import { FakeRegistry } from './fake-registry.ts'

describe.each(SHELLS)('the agent under %s', (shell) => {
  const [program = 'sh', ...words] = shell.split(' ')
  let folder: string

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'rookery-agent-'))
  })

  afterAll(() => {
    rmSync(folder, { recursive: true, force: true })
  })

  const run = (...command: string[]) =>
    spawnSync(program, [...words, AGENT, ...command], {
      encoding: 'utf8',
      env: {
        PATH: process.env.PATH,
        AGENT_CONFIG: join(folder, 'etc'),
        AGENT_STATE: join(folder, 'var'),
      },
    })

  it('sees a kernel that the system has not started yet, as on a busy host', () => {
    const text = readFileSync(AGENT, 'utf8')
    const functions = ['is_number', 'is_alive', 'is_kernel', 'is_starting'].map((name) => {
      const [found] = new RegExp(`^${name}\\(\\) \\{(?:.*\\}$|[^]*?^\\}$)`, 'm').exec(text) ?? []
      return found
    })
    const script = `${functions.join('\n')}
      unit_kernel=/kernel keeper=$$
      says() { if is_kernel "$2"; then echo "$1: alive"; else echo "$1: gone"; fi; }
      mkfifo "$1/pipe"
      sleep 60 < /dev/null > "$1/pipe" & waiting=$!
      says 'waits for its reader' "$waiting"
      KERNEL=/kernel sleep 60 & started=$!
      true & ended=$!
      for _ in 1 2 3; do sleep 0.2; done
      keeper=2147483647
      says 'started' "$started"
      says 'child of another one' "$waiting"
      keeper=$$
      wait "$ended"
      says 'ended' "$ended"
      kill "$waiting" "$started"`
    const { stdout } = spawnSync(program, [...words, '-c', script, 'sh', folder], {
      encoding: 'utf8',
    })
    expect(stdout.split('\n')).toEqual([
      'waits for its reader: alive',
      'started: alive',
      'child of another one: gone',
      'ended: gone',
      '',
    ])
  })

  it('states its version and how it is called', () => {
    expect(run('version').stdout).toMatch(/^rookery-agent \d+\n$/)
    for (const wrong of [[], ['help'], ['enrol'], ['enrol', 'registry.example.org'], ['dance']]) {
      const { status, stderr } = run(...wrong)
      expect({ wrong, status }).toEqual({ wrong, status: wrong[0] === 'help' ? 0 : 2 })
      if (wrong[0] !== 'help') expect(stderr).toMatch(/^usage: rookery-agent enrol URL/)
    }
    expect(run('help').stdout).toMatch(/^usage: rookery-agent enrol URL/)
    expect(run('enrol', 'registry.example.org').stderr).toContain(
      "the URL is http://HOST or https://HOST, without a path, and not 'registry.example.org'",
    )
  })

  it('says what to do before it was enrolled', () => {
    const { status, stderr } = run('run')
    expect(status).toBe(1)
    expect(stderr).toContain('run rookery-agent enrol')
  })
})

describe('the script of the agent', () => {
  it('enrols, and does once what is to be done', async () => {
    const registry = await new FakeRegistry().start()
    const host = await AgentHost.create()
    try {
      await host.enrol(registry.url)
      await host.unit('www')
      const { kernel } = registry.want('www', steady('one'), { watch: 0 })
      expect(await host.run('once')).toMatchObject({ status: 0 })
      expect(registry.last('www')).toMatchObject({ state: 'healthy', kernel })
      expect((await host.run('status')).output).toContain(`www  healthy  runs ${kernel}`)
    } finally {
      await host.remove()
      await registry.stop()
    }
  })

  it('reads settings, and never runs them', () => {
    const lines = readFileSync(AGENT, 'utf8').split('\n')
    expect(lines.filter((line) => /^\s*(?:\.|source) /.test(line))).toEqual([])
    // Its only eval assigns to a name of a list in the script.
    const evals = lines.filter((line) => /\beval\b/.test(line))
    expect(evals).toHaveLength(2)
    for (const line of evals) expect(line).toContain(['eval "$1_$key='].join())
  })
})
