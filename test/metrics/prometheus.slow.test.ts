import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readPage } from '../house/tree.ts'
import { freePorts } from '../support/free-ports.ts'
import { hasProgram } from '../support/has-program.ts'
import { newRepository, pushImageBlobs, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { waitUntil } from '../support/wait-until.ts'
import {
  alerts,
  type Expression,
  metricNames,
  PROMETHEUS_FOLDER,
  panelQueries,
} from './expressions.ts'
import { metricsOf, scrape } from './scrape.ts'

const JOB = 'rookery'
const SCRAPES_MIN = 3

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
  const repository = newRepository()
  const manifest = await pushImageBlobs(registry, repository)
  expect((await putManifest(registry, repository, 'v1', manifest)).status).toBe(201)
  expect((await registry.request(`/v2/${repository}/manifests/v1`)).status).toBe(200)
})
afterAll(() => registry.close())

describe('alerts and dashboard', () => {
  it('name only metrics that a scrape has', async () => {
    const names = new Set(metricsOf(await scrape(registry)).map(({ name }) => name))
    const unknown = [...alerts(), ...panelQueries(JOB)].flatMap((query) =>
      metricNames(query)
        .filter((name) => !names.has(name))
        .map((name) => `${query.of}: ${name}`),
    )
    expect(unknown).toEqual([])
  })
})

describe.runIf(hasProgram('promtool'))('promtool accepts', () => {
  const promtool = (words: string[], input?: string) => {
    const options = { cwd: PROMETHEUS_FOLDER, encoding: 'utf8', input } as const
    const { status, stdout, stderr } = spawnSync('promtool', words, options)
    return { status, output: stdout + stderr }
  }

  it('the rules', () => {
    const { status, output } = promtool(['check', 'rules', 'rules.yml'])
    expect([output, status]).toEqual([expect.stringContaining(`${alerts().length} rules`), 0])
  })

  it('the tests of the rules, which have each alert', () => {
    const { status, output } = promtool(['test', 'rules', 'rules.test.yml'])
    expect([output, status]).toEqual([expect.stringContaining('SUCCESS'), 0])
    const tests = readPage('deploy/prometheus/rules.test.yml')
    const fired = [...tests.matchAll(/alertname: (\w+)\n\s+exp_alerts:\n/g)].map(([, name]) => name)
    expect([...new Set(fired)].sort()).toEqual(
      alerts()
        .map(({ of }) => of)
        .sort(),
    )
  })

  it('the example of a configuration', async () => {
    const { status, output } = promtool(['check', 'config', '--syntax-only', 'prometheus.yml'])
    expect([output, status]).toEqual([expect.stringContaining('SUCCESS'), 0])
  })

  it('a scrape, without a remark', async () => {
    const { status, output } = promtool(['check', 'metrics'], await scrape(registry))
    expect([output, status]).toEqual(['', 0])
  })
})

describe.runIf(hasProgram('prometheus'))('Prometheus', () => {
  let folder: string
  let url: string
  let prometheus: ChildProcess
  let printed = ''

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-prometheus-'))
    const made = await registry.request('/api/v1/credentials', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'prometheus', kind: 'metrics' }),
    })
    const { secret } = (await made.json()) as { secret: string }
    expect([made.status, secret]).toEqual([201, expect.any(String)])
    await writeFile(join(folder, 'rookery-password'), secret)
    for (const name of ['rules.yml', 'prometheus.yml']) {
      const text = await readFile(join(PROMETHEUS_FOLDER, name), 'utf8')
      const changed = text
        .replace('127.0.0.1:5000', new URL(registry.url).host)
        .replaceAll(/_interval: 15s/g, '_interval: 1s')
      await writeFile(join(folder, name), changed)
    }
    const [port] = await freePorts(1)
    url = `http://127.0.0.1:${port}`
    prometheus = spawn('prometheus', [
      `--config.file=${join(folder, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
    ])
    for (const stream of [prometheus.stdout, prometheus.stderr]) {
      stream?.on('data', (chunk) => {
        printed += chunk
      })
    }
    try {
      await waitUntil(async () => (await scrapes().catch(() => 0)) >= SCRAPES_MIN)
    } catch (cause) {
      throw new Error(printed, { cause })
    }
  })
  afterAll(async () => {
    const ended = once(prometheus, 'exit')
    prometheus.kill()
    await ended
    await rm(folder, { recursive: true, force: true })
  })

  /** Scrapes that succeeded. */
  async function scrapes(): Promise<number> {
    const { result } = await query(`sum_over_time(up{job="${JOB}"}[1m])`)
    return Number(result[0]?.value[1] ?? 0)
  }

  type Answer = {
    readonly status: string
    readonly error?: string
    readonly data: { readonly result: { readonly value: [number, string] }[] }
  }

  async function query(expression: string) {
    const answer = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expression)}`)
    const { status, error, data } = (await answer.json()) as Answer
    if (status !== 'success') throw new Error(`${expression}: ${error}`)
    return data
  }

  /** Returns the names of those whose queries have no result. */
  async function withoutResult(queries: readonly Expression[]): Promise<string[]> {
    const empty: string[] = []
    for (const { of, expression } of queries) {
      const { result } = await query(expression)
      if (result.length === 0) empty.push(of)
    }
    return empty
  }

  it('shows a value in each panel, apart from those of an object store and of a backup', async () => {
    expect([...new Set(await withoutResult(panelQueries(JOB)))]).toEqual(PANELS_WITHOUT_VALUES)
  })

  it('evaluates each alert, and none fires for a registry that works', async () => {
    const answer = await fetch(`${url}/api/v1/rules`)
    type Group = { rules: { name: string; health: string; state: string; lastError?: string }[] }
    const rules = async () => {
      const { data } = (await (await fetch(`${url}/api/v1/rules`)).json()) as {
        data: { groups: Group[] }
      }
      return data.groups.flatMap((group) => group.rules)
    }
    expect(answer.status).toBe(200)
    await expect
      .poll(async () => (await rules()).filter(({ health }) => health !== 'ok'))
      .toEqual([])
    const found = await rules()
    expect(found).toHaveLength(alerts().length)
    expect(found.filter(({ state }) => state === 'firing').map(({ name }) => name)).toEqual([])
  })
})

const PANELS_WITHOUT_VALUES = [
  'Delivery attempts by outcome',
  'Calls of the object store',
  'Time of the object store, 95 %',
  'Errors of the object store',
  'Age of the last backup',
  'Bytes of the last backup',
]
