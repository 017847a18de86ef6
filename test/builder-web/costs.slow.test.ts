import pg from 'pg'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import type { Samples } from '../attacks/route-paths.ts'
import { grow } from '../costs/seed.ts'
import { countPages, recordStatements, type Statement, statementsOf } from '../costs/statements.ts'
import { expectedOf, newestBuild, pushBuild } from '../images/image-fixtures.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const REPOSITORY = 'mine/www'
const ROWS = 1_000
const FACTOR = 4
const SORTED_PAGES_MAX = 1_000
const { main_binary_sha256: KERNEL } = expectedOf('hello-key-1')

let registry: TestRegistry
let client: pg.Client
let samples: Samples

beforeAll(async () => {
  recordStatements()
  registry = await startRegistry({ ROOKERY_BUILDER_WEB: 'on' })
  const manifest = await pushBuild(registry, REPOSITORY, 'v1', 'hello-key-1')
  samples = {
    ...{ repository: REPOSITORY, tag: 'v1', manifest, kernel: `sha256:${KERNEL}` },
    ...{ inputId: '', package: 'dune', webhook: 'none', event: 'none' },
    deployment: '00000000-0000-4000-8000-000000000000',
    build: await newestBuild(registry, REPOSITORY),
  }
  client = new pg.Client(registry.databaseUrl)
  await client.connect()
})
afterAll(async () => {
  vi.restoreAllMocks()
  await client?.end()
  await registry?.close()
})

async function addBuilds(from: number, to: number): Promise<void> {
  await grow(client, samples, from, to)
  // Failed builds, and builds of another platform whose manifests were deleted.
  await client.query(
    `insert into builds (repository_id, manifest_digest, result, platform, builder_name, started_at)
     select r.id, 'sha256:' || n, 'failed', 'debian-12', 'admin', now() - make_interval(secs => n)
       from repositories r, generate_series(${from}, ${to - 1}) as n
      where r.name = $1`,
    [REPOSITORY],
  )
  await client.query('analyze')
}

const job = '/job/mine~www'
const PATHS = () => [
  `/hash?sha256=${KERNEL}`,
  `${job}/build/latest`,
  `${job}/build/latest?platform=x86_64`,
  `${job}/build/${samples.build}`,
  `${job}/build/${samples.build}/main-binary`,
  `${job}/build/${samples.build}/console`,
  `/compare/${samples.build}/${samples.build}`,
  '/failed-builds?count=10',
  '/failed-builds?platform=debian-12&count=10',
]

it('an answer costs no more when the registry has more builds', async () => {
  const pagesOf = async () => {
    const found = new Map<string, { status: number; pages: number }>()
    for (const path of PATHS()) {
      let status = 0
      const sent: Statement[] = await statementsOf(async () => {
        status = (await registry.request(path)).status
      })
      let pages = 0
      for (const statement of sent) pages += await countPages(client, statement)
      found.set(path, { status, pages })
    }
    return found
  }
  await addBuilds(0, ROWS)
  const before = await pagesOf()
  await addBuilds(ROWS, ROWS * FACTOR)
  const after = await pagesOf()
  for (const [path, { status, pages }] of after) {
    expect(status, path).toBeLessThan(500)
    const was = before.get(path)?.pages ?? 0
    // With an offset, Postgres may sort few thousand failed builds instead of reading their index.
    const allowed = path.startsWith('/failed-builds') ? SORTED_PAGES_MAX : was * 1.3 + 30
    expect({ path, pages: Math.min(pages, allowed) }).toEqual({ path, pages })
  }
}, 300_000)
