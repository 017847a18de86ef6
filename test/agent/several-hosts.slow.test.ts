import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Kernel, Site } from '../deployments/site.ts'
import { TwoServers } from '../garbage/two-servers.ts'
import { digestOf } from '../support/digest.ts'
import { FaultyProxy } from '../support/faulty-proxy.ts'
import { hasProgram } from '../support/has-program.ts'
import { makeCode } from '../support/hosts.ts'
import { AgentHost, SHELLS } from './agent-host.ts'
import { RolloutSampler } from './rollout-sampler.ts'

const TEST_MILLISECONDS_MAX = 300_000
const WAIT = ['--wait', '--wait-timeout', '3m']
const DOWN_MILLISECONDS = 1_500

/** A namespace with a network of two addresses: its own, and that of this side. */
type Namespace = { readonly name: string; readonly gateway: string }

const run = (words: string) => execFileSync('ip', words.split(' '), { stdio: 'pipe' })

/** Makes a namespace, or throws where that is not permitted. */
function makeNamespace(index: number): Namespace {
  const name = `rookery${randomBytes(3).toString('hex')}`
  const gateway = `10.213.${index}.1`
  run(`netns add ${name}`)
  run(`link add v${name} type veth peer name eth0 netns ${name}`)
  run(`addr add ${gateway}/30 dev v${name}`)
  run(`link set v${name} up`)
  run(`-n ${name} addr add 10.213.${index}.2/30 dev eth0`)
  run(`-n ${name} link set eth0 up`)
  run(`-n ${name} link set lo up`)
  return { name, gateway }
}

describe.runIf(hasProgram('ip'))('three hosts, three replicas and a bad network', () => {
  let servers: TwoServers
  let ports: number[]
  let hostsProxy: FaultyProxy
  let pusherProxy: FaultyProxy
  let site: Site
  let sampler: RolloutSampler
  const hosts: AgentHost[] = []
  const namespaces: Namespace[] = []

  beforeEach(async () => {
    servers = await TwoServers.start()
    await servers.startNext()
    ports = [0, 1, 2].map(portOf)
    hostsProxy = await FaultyProxy.listen(() => ports)
    pusherProxy = await FaultyProxy.listen(() => ports)
    const registry = { ...servers.at(0), url: `http://127.0.0.1:${pusherProxy.port}` }
    site = await Site.create('builds/www', () => registry)
    const connectionString = servers.settings.ROOKERY_DATABASE_URL ?? ''
    const open = async () => {
      const client = new pg.Client({ connectionString })
      await client.connect()
      return client
    }
    sampler = new RolloutSampler(open, 1, 1)
  })

  afterEach(async () => {
    await sampler.stop()
    for (const host of hosts.splice(0)) await host.remove()
    for (const { name } of namespaces.splice(0)) run(`netns del ${name}`)
    await site.remove()
    await hostsProxy.close()
    await pusherProxy.close()
    await servers.stop()
  })

  const portOf = (index: number) => Number(new URL(servers.at(index).url).port)

  async function startHost(index: number): Promise<void> {
    const { name, gateway } = namespaces[index] ?? { name: '', gateway: '' }
    const host = await AgentHost.create(`ip netns exec ${name} ${SHELLS[index % SHELLS.length]}`)
    hosts.push(host)
    const code = await makeCode(site.registry(), {
      name: `web-${index}`,
      repositories: ['builds/*'],
    })
    await host.enrol(`http://${gateway}:${hostsProxy.port}`, code, `web-${index}`)
    await host.unit('www', { start: 'exec sleep 600' })
    host.start()
    await host.until(() => host.read('www', 'reported') !== '', 'the unit is registered')
  }

  async function expectAllRun(kernel: Kernel): Promise<void> {
    for (const host of hosts) {
      expect(digestOf(await host.kernelBytes('www'))).toBe(kernel.digest)
      expect(host.pid('www')).toBeDefined()
    }
  }

  it('all end on the newest image, one after the other, and the pusher learns it', {
    timeout: TEST_MILLISECONDS_MAX,
  }, async (context) => {
    try {
      for (const index of [0, 1, 2]) namespaces.push(makeNamespace(index))
    } catch (error) {
      context.skip(`no network namespace can be made here: ${error}`)
    }
    for (const index of [0, 1, 2]) await startHost(index)
    const set = ['rollout', 'set', site.host, 'careful', '--repository', site.repository]
    const rules = ['--canary', '1', '--batch', '1', '--settle', '1s', '--deadline', '2m']
    expect(await site.rookery([...set, ...rules])).toMatchObject({ status: 0 })

    hostsProxy.isFaulty = true
    const first = await site.newKernel()
    const ran = await site.push(first, ...WAIT)
    expect(ran, ran.stdout + ran.stderr).toMatchObject({ status: 0 })
    expect(ran.stdout).toMatch(/is healthy: 3 of 3 healthy\n$/)
    await expectAllRun(first)

    const second = await site.newKernel()
    const pushed = site.push(second, ...WAIT)
    await hosts[0]?.until(async () => {
      const running = hosts.map(async (host) => digestOf(await host.kernelBytes('www')))
      return (await Promise.all(running)).includes(second.digest)
    }, 'a host has the second kernel')
    await servers.kill(1)
    await delay(DOWN_MILLISECONDS)
    await servers.startNext()
    ports = [0, 2, 3].map(portOf)
    const again = await pushed
    expect(again, again.stdout + again.stderr).toMatchObject({ status: 0 })
    expect(again.stdout).toMatch(/is healthy: 3 of 3 healthy\n$/)
    await expectAllRun(second)

    expect(sampler.exceeded).toEqual([])
    expect(sampler.samples).toBeGreaterThan(100)
    for (const fault of ['cut', 'delay', 'black hole']) {
      expect(hostsProxy.met.get(fault), fault).toBeGreaterThan(0)
    }
  })
})
