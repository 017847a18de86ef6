import { readdirSync, readFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect } from 'vitest'
import { type AgentHost, ending, SHELLS, steady } from './agent-host.ts'
import { testsUnder } from './scene.ts'

const ROUNDS = 12
/** About as long as a deployment takes. */
const ROUND_MILLISECONDS_MAX = 2500

const inState = (host: AgentHost, state: string) =>
  host.until(() => host.read('www', 'state').startsWith(`${state} `), `www is ${state}`)

/** The processes that run the unikernel: `sleep 600` with the environment of the unit. */
function listUnikernels(host: AgentHost): string[] {
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

describe.concurrent.each(SHELLS)('an agent that is killed, under %s', (shell) => {
  const test = testsUnder(shell)

  test('during a download continues it', async ({ host, registry, says, startWithFirst }) => {
    await startWithFirst()
    registry.downloads.push((_, response) => {
      response.writeHead(200, { 'content-length': 1_000_000 }).write('# begins')
      return true
    })
    const { kernel } = registry.want('www', steady('two'))
    await inState(host, 'fetching')
    await host.until(() => registry.downloads.length === 0, 'the download begins')
    await host.kill()
    host.start()
    await says('www', 'healthy', kernel)
    expect(listUnikernels(host)).toHaveLength(1)
  })

  test('during the verify hook calls it again', async ({
    host,
    registry,
    says,
    startWithFirst,
  }) => {
    const gate = join(host.folder, 'gate')
    await startWithFirst()
    await host.unit('www', { verify: `[ -e ${gate} ] || sleep 30` })
    const { kernel } = registry.want('www', steady('two'))
    await inState(host, 'fetching')
    await delay(300)
    await host.kill()
    await writeFile(gate, '')
    host.start()
    await says('www', 'healthy', kernel)
  })

  test('during the checks continues them, and starts nothing again', async ({
    host,
    registry,
    says,
    startWithFirst,
  }) => {
    const gate = join(host.folder, 'gate')
    await startWithFirst()
    await host.unit('www', { check: `exec:[ -e ${gate} ]` })
    const { kernel } = registry.want('www', steady('two'))
    await inState(host, 'checking')
    const pid = host.pid('www')
    await host.kill()
    await writeFile(gate, '')
    host.start()
    await says('www', 'healthy', kernel)
    expect(host.pid('www')).toBe(pid)
  })

  test('in the watch window continues to watch, and restores the previous kernel', async ({
    host,
    registry,
    says,
    startWithFirst,
  }) => {
    const first = await startWithFirst()
    const { kernel } = registry.want('www', ending(2).replace('exit', 'sleep 4; exit'), {
      watch: 60,
    })
    await says('www', 'healthy', kernel)
    await host.kill()
    host.start()
    await says('www', 'rolled-back', first)
    expect(registry.last('www')).toMatchObject({ exit: { code: 2 } })
    expect(listUnikernels(host)).toHaveLength(1)
  })

  test('while it restores the previous kernel finishes that, and says why', async ({
    host,
    registry,
    says,
    startWithFirst,
  }) => {
    const gate = join(host.folder, 'gate')
    await writeFile(gate, '')
    await host.unit('www', { check: `exec:[ -e ${gate} ]` })
    const first = await startWithFirst()
    await rm(gate)
    const { deployment } = registry.want('www', ending(64))
    await inState(host, 'restoring')
    await host.kill()
    await writeFile(gate, '')
    host.start()
    await says('www', 'rolled-back', first)
    expect(registry.last('www')).toMatchObject({ deployment, exit: { code: 64 } })
  })

  test('while nothing happens restarts nothing', async ({ host, startWithFirst }) => {
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

  test('at any time comes to what it should run, which runs once', async ({
    host,
    registry,
    startWithFirst,
  }) => {
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
      expect(listUnikernels(host)).toHaveLength(1)
    }
  })
})
