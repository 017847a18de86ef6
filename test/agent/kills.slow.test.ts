import { readdirSync, readFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { AgentHost, ending, SHELLS, steady } from './agent-host.ts'
import { FakeRegistry } from './fake-registry.ts'

const ROUNDS = 12
/** About as long as a deployment takes. */
const ROUND_MILLISECONDS_MAX = 2500

let registry: FakeRegistry
let host: AgentHost
let gate: string

beforeEach(async () => {
  registry = await new FakeRegistry().start()
})

afterEach(async () => {
  await host.remove()
  await registry.stop()
})

const says = (state: string, kernel: string) =>
  host.until(() => {
    const last = registry.last('www')
    return last?.state === state && last.kernel === kernel
  }, `www says ${state}`)
const inState = (state: string) =>
  host.until(() => host.read('www', 'state').includes(`state=${state}\n`), `www is ${state}`)

/** The processes that run the unikernel: `sleep 600` with the environment of the unit. */
function listUnikernels(): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      const environment = readFileSync(`/proc/${pid}/environ`, 'utf8')
      return words.startsWith('sleep\u0000600') && environment.includes(`KERNEL=${host.folder}`)
    } catch {
      return false
    }
  })
}

describe.each(SHELLS)('an agent that is killed, under %s', (shell) => {
  beforeEach(async () => {
    host = await AgentHost.create(shell)
    gate = join(host.folder, 'gate')
    await host.enrol(registry.url)
    await host.unit('www')
  })

  async function startWithFirst(): Promise<string> {
    host.start()
    const { kernel } = registry.want('www', steady('one'))
    await says('healthy', kernel)
    return kernel
  }

  it('during a download continues it', async () => {
    await startWithFirst()
    registry.downloads.push((_, response) => {
      response.writeHead(200, { 'content-length': 1_000_000 }).write('# begins')
      return true
    })
    const { kernel } = registry.want('www', steady('two'))
    await inState('fetching')
    await host.until(() => registry.downloads.length === 0, 'the download begins')
    await host.kill()
    host.start()
    await says('healthy', kernel)
    expect(listUnikernels()).toHaveLength(1)
  })

  it('during the verify hook calls it again', async () => {
    await startWithFirst()
    await host.unit('www', { verify: `[ -e ${gate} ] || sleep 30` })
    const { kernel } = registry.want('www', steady('two'))
    await inState('fetching')
    await delay(300)
    await host.kill()
    await writeFile(gate, '')
    host.start()
    await says('healthy', kernel)
  })

  it('during the checks continues them, and starts nothing again', async () => {
    await startWithFirst()
    await host.unit('www', { check: `exec:[ -e ${gate} ]` })
    const { kernel } = registry.want('www', steady('two'))
    await inState('checking')
    const pid = host.pid('www')
    await host.kill()
    await writeFile(gate, '')
    host.start()
    await says('healthy', kernel)
    expect(host.pid('www')).toBe(pid)
  })

  it('in the watch window continues to watch, and restores the previous kernel', async () => {
    const first = await startWithFirst()
    const { kernel } = registry.want('www', ending(2).replace('exit', 'sleep 4; exit'), {
      watch: 60,
    })
    await says('healthy', kernel)
    await host.kill()
    host.start()
    await says('rolled-back', first)
    expect(registry.last('www')).toMatchObject({ exit: { code: 2 } })
    expect(listUnikernels()).toHaveLength(1)
  })

  it('while it restores the previous kernel finishes that, and says why', async () => {
    await writeFile(gate, '')
    await host.unit('www', { check: `exec:[ -e ${gate} ]` })
    const first = await startWithFirst()
    await rm(gate)
    const { deployment } = registry.want('www', ending(64))
    await inState('restoring')
    await host.kill()
    await writeFile(gate, '')
    host.start()
    await says('rolled-back', first)
    expect(registry.last('www')).toMatchObject({ deployment, exit: { code: 64 } })
  })

  it('while nothing happens restarts nothing', async () => {
    await startWithFirst()
    const pid = host.pid('www')
    for (const alone of [true, false]) {
      await host.kill(alone)
      expect(host.pid('www')).toBe(pid)
      host.start()
      await delay(1_000)
    }
    await host.stop()
    host.start()
    await delay(1_000)
    expect(host.pid('www')).toBe(pid)
  })

  it('at any time comes to what it should run, which runs once', async () => {
    await startWithFirst()
    let healthy = registry.last('www')?.kernel ?? ''
    for (let round = 0; round < ROUNDS; round += 1) {
      const fails = round % 3 === 2
      const wanted = registry.want('www', fails ? ending(1, `${round}`) : steady(`${round}`))
      await delay(Math.random() * ROUND_MILLISECONDS_MAX)
      await host.kill(round % 2 === 0)
      host.start()
      if (!fails) healthy = wanted.kernel
      await host.until(() => {
        const last = registry.last('www')
        const isRight = fails ? last?.state === 'rolled-back' : last?.state === 'healthy'
        return isRight && last?.kernel === healthy && last.deployment === wanted.deployment
      }, `round ${round}`)
      expect(listUnikernels()).toHaveLength(1)
    }
  })
})
