import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect } from 'vitest'
import { ending, SHELLS, steady } from './agent-host.ts'
import { breakOff } from './fake-registry.ts'
import { testsUnder } from './scene.ts'

/** After the watch time the agent looks for another second. */
const WATCHED_MILLISECONDS = 3_000

/** The words of all processes. */
const listArguments = () =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      } catch {
        return ''
      }
    })

describe.concurrent.each(SHELLS)('under %s', (shell) => {
  const test = testsUnder(shell)

  test('a damaged download is fetched again, and after the second one nothing is started', async ({
    host,
    registry,
    says,
    startWithFirst,
  }) => {
    const first = await startWithFirst()
    const damage = (_: unknown, response: ServerResponse) => {
      response.writeHead(200).end('not the kernel')
      return true
    }
    registry.downloads.push(damage)
    const second = registry.want('www', steady('two'))
    await says('www', 'healthy', second.kernel)
    registry.downloads.push(damage, damage)
    const { deployment } = registry.want('www', steady('three'))
    await says('www', 'failed', second.kernel)
    expect(registry.last('www')).toMatchObject({ deployment, reason: 'digest' })
    expect(registry.last('www')?.exit).toBeUndefined()
    expect(await host.kernelFile('www')).toBe(steady('two'))
    expect(first).not.toBe(second.kernel)
  })

  test('a download that is cut off continues where it ended', async ({
    registry,
    says,
    startWithFirst,
  }) => {
    await startWithFirst()
    const bytes = `${steady('long')}#${'x'.repeat(300_000)}\n`
    registry.downloads.push((_, response) => {
      response.writeHead(200, { 'content-length': bytes.length })
      response.write(bytes.slice(0, 100_000), () => setTimeout(() => response.destroy(), 50))
      return true
    })
    let range: string | undefined
    const { kernel } = registry.want('www', bytes)
    registry.downloads.push((request) => {
      range = request.headers.range
      return false
    })
    await says('www', 'healthy', kernel)
    expect(range).toMatch(/^bytes=[1-9]\d*-$/)
  })

  test('a registry that breaks off each answer for a while is no failure of the kernel', async ({
    registry,
    says,
    statesOf,
    startWithFirst,
  }) => {
    await startWithFirst()
    for (let count = 0; count < 4; count += 1) {
      registry.downloads.push((_, response) => {
        response.destroy()
        return true
      })
    }
    const { kernel } = registry.want('www', steady('two'))
    await says('www', 'healthy', kernel)
    expect(statesOf('www')).not.toContain('failed')
  })

  test('answers that break off in their headers are none', async ({
    registry,
    says,
    statesOf,
    startWithFirst,
  }) => {
    await startWithFirst()
    for (let count = 0; count < 3; count += 1) {
      registry.downloads.push((_, response) => {
        breakOff(response, 'Content-Le')
        return true
      })
    }
    registry.cuts = 1
    const { kernel } = registry.want('www', steady('two'))
    await says('www', 'healthy', kernel)
    expect(statesOf('www')).not.toContain('failed')
  })

  test('a check that fails also for the previous kernel leaves that running', async ({
    host,
    registry,
    startWithFirst,
  }) => {
    const first = await startWithFirst()
    await host.unit('www', { check: 'exec:false', within: '3' })
    registry.want('www', steady('two'))
    await host.until(() => registry.last('www')?.state === 'rolled-back', 'the first is restored')
    expect(registry.last('www')).toMatchObject({ kernel: first, reason: 'check' })
    expect(host.pid('www')).toBeDefined()
  })

  test('a clock that is an hour wrong is not in the way', async ({
    host,
    registry,
    startWithFirst,
  }) => {
    registry.ahead = 3_600_000
    await startWithFirst()
    expect(host.printed).toContain('taking the time from the registry')
  })

  test('a token that ends before its time is replaced', async ({
    registry,
    says,
    startWithFirst,
  }) => {
    await startWithFirst()
    registry.revokeTokens()
    const { kernel } = registry.want('www', steady('two'))
    await says('www', 'healthy', kernel)
  })

  test('the registry goes and comes back, and nothing that runs notices', async ({
    host,
    registry,
    says,
    startWithFirst,
  }) => {
    await startWithFirst()
    const pid = host.pid('www')
    const port = Number(new URL(registry.url).port)
    await registry.stop()
    await host.until(() => host.printed.includes('does not say'), 'the outage is noticed')
    await delay(1_500)
    expect(host.pid('www')).toBe(pid)
    await registry.start(port)
    const { kernel } = registry.want('www', steady('two'))
    await says('www', 'healthy', kernel)
  })

  test('offline over many pushes it goes to the newest only', async ({
    host,
    registry,
    says,
    startWithFirst,
  }) => {
    await startWithFirst()
    await host.stop()
    for (const mark of ['two', 'three', 'four']) registry.want('www', steady(mark))
    const { kernel } = registry.want('www', steady('five'))
    const before = registry.requests.length
    host.start()
    await says('www', 'healthy', kernel)
    const downloads = registry.requests.slice(before).filter((one) => one.startsWith('GET /v2/'))
    expect(downloads).toEqual([`GET /v2/builds/www/blobs/${kernel}`])
  })

  test('a newer kernel ends the watch of the one before, and the last good one is kept', async ({
    registry,
    says,
    statesOf,
    startWithFirst,
  }) => {
    const first = await startWithFirst()
    const second = registry.want('www', steady('two'), { watch: 600 })
    await says('www', 'healthy', second.kernel)
    registry.want('www', ending(1), { watch: 600 })
    await says('www', 'rolled-back', second.kernel)
    expect(registry.last('www')?.exit).toEqual({
      code: 1,
      meaning: 'Solo5 error, such as a wrong kernel or device',
    })
    expect(statesOf('www')).not.toContain(first)
  })

  test('a unit that hangs does not delay another', async ({ host, registry, says }) => {
    await host.unit('slow', { check: 'exec:sleep 60', repository: 'builds/slow' })
    host.start()
    await says('slow', 'absent')
    registry.want('slow', steady('hangs'), { repository: 'builds/slow' })
    await says('slow', 'checking')
    const { kernel } = registry.want('www', steady('one'))
    await says('www', 'healthy', kernel)
    expect(registry.last('slow')?.state).toBe('checking')
  })

  test('the verify hook sees a kernel before it starts, and can refuse it', async ({
    host,
    registry,
    says,
    startWithFirst,
  }) => {
    const first = await startWithFirst()
    await host.unit('www', {
      verify: 'grep -q signed "$KERNEL" || { echo "no signature of $UNIT"; exit 1; }',
    })
    const { deployment } = registry.want('www', steady('two'))
    await says('www', 'failed', first)
    expect(registry.last('www')).toMatchObject({
      ...{ deployment, reason: 'verify' },
      message: expect.stringContaining('no signature of www'),
    })
    const third = registry.want('www', steady('signed'))
    await says('www', 'healthy', third.kernel)
  })

  test('with log=off nothing of the console leaves the host', async ({
    host,
    registry,
    says,
    startWithFirst,
  }) => {
    await host.unit('www', { log: 'off' })
    const first = await startWithFirst()
    registry.want('www', ending(2, 'the password is secret'))
    await says('www', 'rolled-back', first)
    expect(registry.last('www')?.log).toBeUndefined()
    expect(JSON.stringify(registry.reports)).not.toContain('secret')
  })

  test('a kernel of another repository is refused at every address', async ({
    host,
    registry,
    startWithFirst,
  }) => {
    const first = await startWithFirst()
    for (const repository of ['builds/evil', 'x/v2/builds/www', '../builds/www']) {
      const { deployment } = registry.want('www', steady(repository), { repository })
      await host.until(
        () => registry.last('www')?.deployment === deployment,
        'the refusal is reported',
      )
      expect(registry.last('www')).toMatchObject({
        state: 'failed',
        kernel: first,
        reason: 'refused',
      })
    }
    expect(registry.requests.filter((one) => one.startsWith('GET /v2/'))).toHaveLength(1)
  })

  test('fields of an answer that are no names and digests run nothing and name no file', async ({
    host,
    registry,
    startWithFirst,
  }) => {
    await startWithFirst()
    const pid = host.pid('www')
    const digest = `sha256:${'a'.repeat(64)}`
    const mark = join(host.folder, 'owned')
    const shell = `$(touch ${mark})`
    const url = `${registry.url}/v2/builds/www/blobs/${digest}`
    const lines = [
      ['../../etc', digest, digest, url, '-', '1', '-', '-'],
      ['www', digest, `sha256:${shell}`, url, '-', '1', '-', '-'],
      ['www', digest, digest, url, `;touch ${mark}`, '1', '-', '-'],
      ['www', digest, digest, url, '-', `1;touch ${mark}`, '-', '-'],
      ['www', digest, digest, url, '-', 'a[$(touch x)]', '-', '-'],
      ['www', digest, digest, `${url}${shell}`, '-', '1', '-', shell],
      ['www', digest, `-oProxy`, url, '-', '1', '-', '-'],
      [shell, digest, digest, url, '-', '1', '-', '-'],
      ['www', digest, digest, url, '-', '1', '-', '-', 'more'],
      ['*', digest, digest, url, '-', '1', '-', '-'],
    ]
    registry.answer = `${lines.map((line) => line.join('\t')).join('\n')}\n\n\t\t\t\n${'x'.repeat(5000)}`
    registry.wake()
    const malformed = () => host.printed.split('is malformed').length - 1
    await host.until(() => malformed() >= lines.length, 'all lines are refused')
    await delay(500)
    expect(existsSync(mark)).toBe(false)
    expect(readdirSync(host.state(''))).toEqual(['www'])
    expect(host.pid('www')).toBe(pid)
    expect(registry.deleted).toEqual([])
  })

  test('the registry forgets a unit whose file is gone, and its unikernel runs on', async ({
    host,
    registry,
    startWithFirst,
  }) => {
    await startWithFirst()
    const pid = host.pid('www')
    await rm(join(host.folder, 'etc/units/www'))
    host.reload()
    registry.want('www', steady('two'))
    await host.until(() => registry.deleted.includes('www'), 'the unit is deleted')
    expect(host.pid('www')).toBe(pid)
  })

  test('a file that is no unit file is named, and runs nothing', async ({
    host,
    startWithFirst,
  }) => {
    const mark = join(host.folder, 'owned')
    await writeFile(
      join(host.folder, 'etc/units/bad'),
      `repository=builds/www\ntag=$(touch ${mark})\nrunner=exec\nstart=true\n`,
    )
    await writeFile(join(host.folder, 'etc/units/worse'), `touch ${mark}\n`)
    await startWithFirst()
    expect(host.printed).toContain('units/bad: tag= is not a tag')
    expect(host.printed).toContain('units/worse: line 1 is not KEY=VALUE')
    expect(existsSync(mark)).toBe(false)
  })

  test('a kernel that ends later is reported, and so is that it runs again', async ({
    host,
    registry,
    says,
    statesOf,
    startWithFirst,
  }) => {
    await startWithFirst()
    await host.until(() => {
      const [state, , , , settles] = host.read('www', 'state').split(' ')
      return state === 'healthy' && Number(settles) * 1000 < Date.now() - WATCHED_MILLISECONDS
    }, 'the watch is over')
    process.kill(host.pid('www') ?? 0, 'SIGKILL')
    await host.until(() => statesOf('www').includes('failed'), 'the end is reported')
    const failed = registry.reports.findLast((one) => one.state === 'failed')
    expect(failed).toMatchObject({ reason: 'ended', exit: { code: 137 } })
    host.reload()
    await host.until(() => host.pid('www') !== undefined, 'it is started again')
    host.reload()
    await says('www', 'healthy')
  })

  test('the key and the token can be read by nobody else, and no argument has them', async ({
    host,
    registry,
    startWithFirst,
  }) => {
    await startWithFirst()
    for (const name of ['key.pem', 'token']) {
      expect(statSync(join(host.folder, 'var', name)).mode & 0o777).toBe(0o600)
    }
    const token = /Bearer (\S+)"/.exec(readFileSync(join(host.folder, 'var/token'), 'utf8'))?.[1]
    let running: string[] = []
    await host.until(() => {
      running = listArguments()
      return running.some((words) => words.includes(`${registry.url}/api/v1/hosts/web-1/desired`))
    }, 'the agent asks')
    expect(running.filter((words) => words.includes(token ?? ' '))).toEqual([])
  })
})
