import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Deployment } from '../../src/client/deployments.ts'
import { waitUntil } from '../support/wait-until.ts'
import { builder } from './builder.ts'
import { Wire } from './deployment-wire.ts'
import { deployment, target } from './deployments.ts'
import { runMain } from './rookery.ts'

let wire: Wire

beforeEach(async () => {
  wire = new Wire()
  await wire.open()
})

afterEach(() => wire.close())

const watch = (...words: string[]) =>
  builder(['deploy', 'watch', `${wire.host}/builds/www:live`, ...words], { ROOKERY_TOKEN: 'x' })

const rolling = (state: string) => deployment('rolling', [target('web-1', state)])

describe('rookery deploy watch', () => {
  it('waits over an outage of the registry, and says so once', async () => {
    wire.change(rolling('granted'))
    const ran = watch()
    await waitUntil(() => wire.polls >= 2)
    await wire.close()
    wire.refused = 0
    await wire.open()
    await waitUntil(() => (wire.refused ?? 0) >= 2)
    wire.change(rolling('checking'))
    wire.refused = undefined
    const before = wire.polls
    await waitUntil(() => wire.polls > before + 1)
    wire.change(rolling('healthy'))
    const { status, stdout, stderr } = await ran
    expect(status).toBe(0)
    expect(stdout.split('\n').map((line) => line.replace(/^\S+Z {2}/, ''))).toEqual([
      'deployment 12 of builds/www:live  rolling  0 of 1 healthy, 1 in flight',
      'web-1/www  granted',
      'web-1/www  checking',
      'web-1/www  healthy',
      'deployment 12 of builds/www:live is healthy: 1 of 1 healthy',
      '',
    ])
    expect(stderr).toMatch(/^rookery: .*; waiting until the registry answers\n.*answers again\n$/)
  })

  it('ends with 3 when the time runs out, also during an outage', async () => {
    wire.change(rolling('checking'))
    const late = await watch('--wait-timeout', '1s')
    expect(late).toMatchObject({ status: 3 })
    expect(late.stdout).toMatch(/is still rolling, and goes on: 0 of 1 healthy, 1 in flight\n$/)
    const ran = watch('--wait-timeout', '3s')
    const before = wire.polls
    await waitUntil(() => wire.polls > before + 1)
    await wire.close()
    expect(await ran).toMatchObject({ status: 3 })
    await wire.open()
  })

  it('ends with 130 when it is interrupted, and says that the deployment goes on', async () => {
    wire.change(rolling('checking'))
    const ran = runMain(['deploy', 'watch', `${wire.host}/builds/www:live`], {
      env: { PATH: process.env.PATH, HOME: '/nowhere' },
      onStart: (kill) => void waitUntil(() => wire.polls >= 2).then(() => kill('SIGINT')),
    })
    const { status, stderr } = await ran
    expect(status).toBe(130)
    expect(stderr).toMatch(
      /^rookery: stopped waiting; deployment 12 of builds\/www:live goes on: .*\n$/,
    )
  })

  it.each([
    ['halted', 'failed', 1],
    ['superseded', 'skipped', 4],
    ['succeeded', 'healthy', 0],
  ])('of a deployment that is %s has its exit status, also in JSON', async (state, one, status) => {
    wire.change(deployment(state, [target('web-1', one)]))
    const ran = await watch('--json')
    expect(ran).toMatchObject({ status, stderr: '' })
    const lines = ran.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(lines).toHaveLength(2)
    expect(lines[0]).toEqual({ deployment: wire.shown })
    expect(lines[1]).toMatchObject({ status, tag: 'live', deployment: { number: 12 } })
  })

  it('ends at once where nobody follows the tag', async () => {
    const ran = await watch()
    expect(ran).toMatchObject({ status: 0, stderr: '' })
    expect(ran.stdout).toBe('no host follows builds/www:live: there is nothing to wait for\n')
    expect(await watch('--require-hosts', '1')).toMatchObject({ status: 1 })
    expect(JSON.parse((await watch('--json')).stdout)).toMatchObject({ outcome: 'unfollowed' })
  })

  it('explains an answer that is no deployment', async () => {
    wire.change({ ...rolling('checking'), counts: undefined } as unknown as Deployment)
    const ran = await watch()
    expect(ran).toMatchObject({ status: 2, stdout: '' })
    expect(ran.stderr).toMatch(/the answer is no deployment; is it another registry\?/)
  })

  it.each([
    [['--require-hosts', '0'], /--require-hosts must be all, or a number from 1 to 100000/],
    [['--wait-timeout', '2d'], /--wait-timeout must be a duration/],
    [['--deployment', 'newest'], /--deployment must be a UUID/],
    [['--digest', 'sha256:xyz'], /digest/],
  ])('%j is refused', async (words, message) => {
    const ran = await watch(...words)
    expect(ran).toMatchObject({ status: 2, stdout: '' })
    expect(ran.stderr).toMatch(message)
  })
})
