import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { newRepository } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { type Kernel, Site } from './site.ts'

let registry: TestRegistry
let site: Site
let hosts = 0
/** Names that no other test uses. */
let names: string[]

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())
beforeEach(async () => {
  site = await Site.create(newRepository(), () => registry)
  hosts += 1
  names = ['a', 'b', 'c'].map((letter) => `web-${hosts}-${letter}`)
})
afterEach(async () => {
  for (const { refusals } of site.hosts) expect(refusals).toEqual([])
  await site.remove()
})

const kernels = () => site.hosts.map((host) => host.kernelOf('www'))

async function addHosts(behaviour: Parameters<Site['addHost']>[1] = {}): Promise<void> {
  for (const name of names) await site.addHost(name, { fetches: true, ...behaviour })
}

/** Pushes a kernel that the hosts run. */
async function pushGood(): Promise<Kernel> {
  const kernel = await site.newKernel()
  expect(await site.push(kernel, '--wait')).toMatchObject({ status: 0, stderr: '' })
  return kernel
}

async function setRollout(...words: string[]): Promise<void> {
  const name = site.repository.replace(/\W/g, '-')
  const set = ['rollout', 'set', site.host, name, '--repository', site.repository]
  const ran = await site.rookery([...set, '--settle', '1s', ...words])
  expect(ran, ran.stderr).toMatchObject({ status: 0, stderr: '' })
}

describe('rookery push --wait', () => {
  it('ends when all hosts run the kernel, and shows each of them', async () => {
    await addHosts()
    const kernel = await site.newKernel()
    const ran = await site.push(kernel, '--wait')
    expect(ran, ran.stdout).toMatchObject({ status: 0, stderr: '' })
    expect(kernels()).toEqual(names.map(() => kernel.digest))
    for (const name of names) expect(ran.stdout).toMatch(new RegExp(`${name}/www  healthy$`, 'm'))
    const end = /deployment 1 of \S+:live is healthy: 3 of 3 healthy\n$/
    expect(ran.stdout).toMatch(end)
    const next = await pushGood()
    expect(kernels()).toEqual(names.map(() => next.digest))
  })

  it('names the host that fails, with exit code, reason and log; the host runs its kernel again', async () => {
    const bad = new Set<string>()
    const conclude = (kernel: string) => (bad.has(kernel) ? 'failed' : 'healthy')
    await site.addHost(names[0] ?? '', { fetches: true })
    await site.addHost(names[1] ?? '', { fetches: true, conclude })
    const good = await pushGood()
    const kernel = await site.newKernel()
    bad.add(kernel.digest)
    const ran = await site.push(kernel, '--wait')
    expect(ran.status, ran.stdout).toBe(1)
    const failure = `${names[1]}/www: rolled-back: exited: exit 2 (an exception of OCaml): it ended in its watch window`
    expect(ran.stdout).toContain(`${failure}\n  | Fatal error: exception Not_found\n`)
    expect(ran.stdout).toMatch(/deployment 2 of \S+:live is failed: 1 of 2 healthy, 1 failed/)
    expect(kernels()).toEqual([kernel.digest, good.digest])
  })

  it('with --wait=settled ends when the hosts stayed healthy', async () => {
    await addHosts()
    await setRollout()
    const ran = await site.push(await site.newKernel(), '--wait=settled', '--json')
    expect(ran.status).toBe(0)
    const lines = ran.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    const [pushed, ...others] = lines
    expect(pushed.references).toEqual([site.image])
    expect(others.at(-1)).toMatchObject({ outcome: 'settled', status: 0, tag: 'live' })
    expect(others.at(-2).deployment.counts).toMatchObject({ settled: 3, of: 3 })
  })

  it('ends with 3 when a host does not conclude in time', async () => {
    await site.addHost(names[0] ?? '', { conclude: () => 'silent' })
    const ran = await site.push(await site.newKernel(), '--wait', '--wait-timeout', '2s')
    expect(ran.status, ran.stdout).toBe(3)
    expect(ran.stdout).toMatch(/is still rolling, and goes on: 0 of 1 healthy, 1 in flight\n$/)
  })

  it('ends with 4 when another push replaces it', async () => {
    await site.addHost(names[0] ?? '', { conclude: () => 'silent' })
    const first = site.push(await site.newKernel(), '--wait')
    await expect
      .poll(async () => (await site.rookery(['deploy', 'status', site.image])).stdout, {
        timeout: 30_000,
      })
      .toMatch(/^state +rolling$/m)
    await site.push(await site.newKernel())
    const ran = await first
    expect(ran.status, ran.stdout).toBe(4)
    expect(ran.stdout).toMatch(/deployment 1 of \S+:live was superseded by a newer one/)
  })

  it('says that nobody follows the tag', async () => {
    const kernel = await site.newKernel()
    const ran = await site.push(kernel, '--wait')
    expect(ran).toMatchObject({ status: 0, stderr: '' })
    expect(ran.stdout).toContain(`no host follows ${site.repository}:live`)
    expect(await site.push(kernel, '--wait', '--require-hosts', '1')).toMatchObject({ status: 1 })
  })

  it('of the same image again shows how its deployment ended', async () => {
    await addHosts()
    const kernel = await pushGood()
    const again = await site.push(kernel, '--wait')
    expect(again.status).toBe(0)
    expect(again.stdout).toMatch(/deployment 1 of \S+:live is healthy: 3 of 3 healthy\n$/)
  })

  it('of another image with the same kernel is healthy at once', async () => {
    await addHosts()
    const kernel = await pushGood()
    const ran = await site.push(kernel, '--created', '2026-05-20T12:00:00Z', '--wait')
    expect(ran.status, ran.stdout).toBe(0)
    expect(ran.stdout).toMatch(/deployment 2 of \S+:live is healthy: 3 of 3 healthy\n$/)
    const ends = site.hosts.flatMap(({ happened }) => happened).map(({ state }) => state)
    expect(ends.filter((state) => state === 'healthy')).toHaveLength(3)
  })
})

describe('a rollout', () => {
  it('with a canary that fails is halted, and no other host sees the image', async () => {
    let bad = ''
    await addHosts({ conclude: (kernel) => (kernel === bad ? 'failed' : 'healthy') })
    const good = await pushGood()
    await setRollout('--canary', '1', '--batch', '1')
    const kernel = await site.newKernel()
    bad = kernel.digest
    const ran = await site.push(kernel, '--wait')
    expect(ran.status, ran.stdout).toBe(1)
    expect(ran.stdout).toMatch(/is halted: 0 of 3 healthy, 1 failed, 2 skipped/)
    expect(kernels()).toEqual(names.map(() => good.digest))
    const started = site.hosts
      .flatMap(({ happened }) => happened)
      .filter(({ state, kernel: one }) => state === 'started' && one === bad)
    expect(started).toHaveLength(1)
  })

  it('moves the tag back, so that all hosts run the image before', async () => {
    let bad = ''
    await addHosts({ conclude: (kernel) => (kernel === bad ? 'failed' : 'healthy') })
    const good = await pushGood()
    await setRollout('--canary', '1', '--on-failure', 'rollback')
    const kernel = await site.newKernel()
    bad = kernel.digest
    expect(await site.push(kernel, '--wait')).toMatchObject({ status: 1 })
    const history = () => site.rookery(['tag', 'history', site.image])
    await expect
      .poll(async () => (await history()).stdout, { timeout: 30_000 })
      .toMatch(/ rollback /)
    expect((await site.rookery(['deploy', 'watch', site.image])).status).toBe(0)
    expect(kernels()).toEqual(names.map(() => good.digest))
  })

  it('that pauses goes on after resume, and ends after cancel', async () => {
    await addHosts()
    await setRollout('--canary', '1', '--pause-after', 'canary')
    const [first, second] = [await site.newKernel(), await site.newKernel()]
    const pushed = site.push(first, '--wait')
    await untilState('paused')
    expect(kernels()).toEqual([first.digest, null, null])
    const resumed = await site.rookery(['deploy', 'resume', site.image])
    expect(resumed, resumed.stderr).toMatchObject({ status: 0 })
    const ran = await pushed
    expect(ran.status, ran.stdout).toBe(0)
    expect(ran.stderr).toMatch(/is paused \(.*\); continue it with: rookery deploy resume/)
    expect(kernels()).toEqual(names.map(() => first.digest))
    const other = site.push(second, '--wait')
    await untilState('paused')
    expect(await site.rookery(['deploy', 'cancel', site.image])).toMatchObject({ status: 0 })
    expect(await other).toMatchObject({ status: 1 })
    expect(kernels()).toEqual([second.digest, first.digest, first.digest])
  })

  const untilState = (state: string) =>
    expect
      .poll(async () => (await site.rookery(['deploy', 'status', site.image])).stdout, {
        timeout: 30_000,
      })
      .toMatch(new RegExp(`^state +${state}`, 'm'))
})

describe('rookery deploy', () => {
  it('watches and lists what another program pushed', async () => {
    await addHosts()
    await pushGood()
    const kernel = await site.newKernel()
    expect(await site.push(kernel)).toMatchObject({ status: 0 })
    const ran = await site.rookery(['deploy', 'watch', site.image])
    expect(ran.status, ran.stdout).toBe(0)
    expect(ran.stdout).toMatch(/deployment 2 of \S+:live is healthy/)
    const listed = await site.rookery(['deploy', 'list', site.image])
    expect(listed.stdout.trimEnd().split('\n')).toHaveLength(3)
    const { digest } = JSON.parse(
      (await site.rookery(['deploy', 'status', site.image, '--json'])).stdout,
    )
    const chosen = await site.rookery([
      'deploy',
      'watch',
      site.image,
      '--digest',
      digest.slice(0, 19),
    ])
    expect(chosen.stdout).toMatch(/deployment 2 of/)
  })

  it('attempts it again on a host where it failed', async () => {
    let bad = ''
    await addHosts({ conclude: (kernel) => (kernel === bad ? 'failed' : 'healthy') })
    const kernel = await site.newKernel()
    bad = kernel.digest
    expect(await site.push(kernel, '--wait')).toMatchObject({ status: 1 })
    // The deployment has failed with the first of them; the others continue.
    const ends = () => site.hosts.flatMap(({ happened }) => happened.map(({ state }) => state))
    await expect.poll(() => ends().filter((state) => state === 'failed')).toHaveLength(3)
    bad = ''
    const one = await site.rookery(['deploy', 'retry', site.image, '--host', names[0] ?? ''])
    expect(one, one.stderr).toMatchObject({ status: 0 })
    const { stdout } = await site.rookery(['deploy', 'watch', site.image])
    expect(stdout, stdout).toMatch(/deployment 2 of \S+:live is healthy: 1 of 1 healthy\n$/)
    expect(kernels()).toEqual([kernel.digest, null, null])
  })

  it('shows numbers without names to a login that may only pull', async () => {
    await addHosts()
    await pushGood()
    const scope = encodeURIComponent(`repository:${site.repository}:pull`)
    const minted = await registry.request(`/token?scope=${scope}`)
    const { token } = (await minted.json()) as { token: string }
    for (const words of [['watch'], ['status'], ['status', '--json']]) {
      const [word = '', ...more] = words
      const ran = await site.rookery(['deploy', word, site.image, ...more], token)
      expect(ran, ran.stderr).toMatchObject({ status: 0 })
      expect(ran.stdout).toMatch(/3 of 3 healthy|"healthy":3/)
      for (const name of names) expect(ran.stdout).not.toContain(name)
    }
    const refused = await site.rookery(['deploy', 'cancel', site.image], token)
    expect(refused.status).toBe(2)
  })
})
