import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePorts } from '../support/free-ports.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { MAIN, type Ran, runMain } from './rookery.ts'

/** User and system time of one check: a container runs it every half minute. Node alone takes 0.04 s. */
const CPU_SECONDS_MAX = 0.2
const RUNS = 5
const ONE_LINE = /^[^\n]+\n$/
const UNAVAILABLE = JSON.stringify({ errors: [{ code: 'UNAVAILABLE', message: 'no store' }] })

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

const check = (listen: string, ...words: string[]): Promise<Ran> =>
  runMain(['healthcheck', ...words], { env: { ROOKERY_LISTEN: listen } })

/** Runs the check of another server at the address. */
async function checkOf(answer: RequestListener, ...words: string[]): Promise<Ran> {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    return await check(`127.0.0.1:${(server.address() as AddressInfo).port}`, ...words)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

describe('rookery healthcheck', () => {
  it('ends with 0 when the server is ready, with a line that says so', async () => {
    const { port } = new URL(registry.url)
    for (const host of ['127.0.0.1', '0.0.0.0', 'localhost', '[::]']) {
      for (const words of [[], ['--live']]) {
        const ran = await check(`${host}:${port}`, ...words)
        expect(ran).toEqual({ status: 0, stderr: '', stdout: expect.stringMatching(ONE_LINE) })
      }
    }
  })

  it('ends with 1 and the reason when nothing listens, or the setting names no port', async () => {
    const [port] = await freePorts(1)
    const reasons = [
      [`127.0.0.1:${port}`, `127.0.0.1:${port}/readyz: connect ECONNREFUSED`],
      ['127.0.0.1:0', 'port 0'],
      ['somewhere', 'must be address:port'],
    ] as const
    for (const [listen, reason] of reasons) {
      const ran = await check(listen)
      expect(ran).toMatchObject({ status: 1, stdout: '' })
      expect(ran.stderr).toMatch(ONE_LINE)
      expect(ran.stderr).toContain(reason)
    }
  })

  it('ends with 1 when the server is not ready, and with 0 when only its process is asked', async () => {
    const starved: RequestListener = ({ url }, answer) => {
      answer.statusCode = url === '/healthz' ? 200 : 503
      answer.end(UNAVAILABLE)
    }
    const ran = await checkOf(starved)
    expect(ran.stderr).toMatch(/^rookery: http:\S+\/readyz answers 503: no store\n$/)
    expect(ran.status).toBe(1)
    expect(await checkOf(starved, '--live')).toMatchObject({ status: 0 })
  })

  it('ends with 1 when no answer comes, or one without an end', async () => {
    const answers: RequestListener[] = [
      () => {},
      (_, answer) => {
        answer.statusCode = 500
        answer.write('x'.repeat(1_000_000))
      },
    ]
    const [silent, endless] = await Promise.all(answers.map((answer) => checkOf(answer)))
    expect(silent).toMatchObject({ status: 1 })
    expect(silent?.stderr).toMatch(/: no answer in 5 s\n$/)
    expect(endless).toMatchObject({ status: 1 })
    expect(endless?.stderr).toMatch(/ answers 500\n$/)
  })

  it('waits for a server that is not ready yet, for as long as it should', async () => {
    let asked = 0
    const starting: RequestListener = (_, answer) => {
      asked += 1
      answer.statusCode = asked < 3 ? 503 : 200
      answer.end(UNAVAILABLE)
    }
    expect(await checkOf(starting, '--wait', '30')).toMatchObject({ status: 0, stderr: '' })
    expect(asked).toBe(3)
    const [port] = await freePorts(1)
    expect(await check(`127.0.0.1:${port}`, '--wait', '1')).toMatchObject({ status: 1 })
  })

  it('takes little CPU time', async () => {
    const { host } = new URL(registry.url)
    const timed = 'TIMEFORMAT="%U %S"; time "$@" >/dev/null'
    const words = ['--norc', '-c', timed, 'bash', process.execPath, MAIN, 'healthcheck']
    const options = { env: { PATH: process.env.PATH, ROOKERY_LISTEN: host } }
    let least = Number.POSITIVE_INFINITY
    for (let run = 0; run < RUNS; run += 1) {
      const { stderr } = await promisify(execFile)('bash', words, options)
      const [user = 0, system = 0] = stderr.trim().split(' ').map(Number)
      least = Math.min(least, user + system)
    }
    expect(least).toBeLessThan(CPU_SECONDS_MAX)
  })
})
