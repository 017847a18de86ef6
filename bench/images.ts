/** Measures the analysis of images in pushes, and queries over many images. See README.md. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { withDatabase } from '../src/cli/server/operator.ts'
import { ANALYZER_VERSION } from '../src/unikernel/layer-analysis.ts'
import { readCpu } from './processes.ts'
import { type Server, startRookery } from './servers.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const IMAGES = 10_000
const PACKAGES_AN_IMAGE = 150
/** Statements that insert the packages. */
const STEPS = 10
const QUERIES = 100
/** A connection rests after a question, in db/questions.ts, which a person does not notice. */
const REST_MILLISECONDS = 200
const PUSHES = 150
const ROUNDS = 3

const build = join(root, 'test/fixtures/builds/hello-key-2')
const FILES = {
  kernel: 'bin/hello-key.hvt',
  'opam-switch': 'opam-switch',
  'system-packages': 'system-packages',
  'build-environment': 'build-environment',
  debug: 'hello-key.hvt.debug',
}

const sources = new Map(
  Object.entries(FILES).map(([role, path]) => [role, readFileSync(join(build, path))]),
)

type Cost = { main: number; total: number; seconds: number }

/** Pushes one image as a unikernel and as opaque files, alternately. */
async function measurePushes(of: Server): Promise<void> {
  const kinds = ['unikernel', 'lists stored', 'opaque'] as const
  const sums = new Map<string, Cost>(kinds.map((kind) => [kind, { main: 0, total: 0, seconds: 0 }]))
  let serial = 0
  await push(of, 'unikernel', 0)
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const kind of kinds) {
      const before = readCpu(of.mainPid, of.roots())
      const start = performance.now()
      for (let count = 0; count < PUSHES; count += 1) {
        serial += 1
        await push(of, kind, serial)
      }
      const after = readCpu(of.mainPid, of.roots())
      const sum = sums.get(kind) as Cost
      sum.main += after.mainSeconds - before.mainSeconds
      sum.total += after.totalSeconds - before.totalSeconds
      sum.seconds += (performance.now() - start) / 1000
    }
  }
  const per = (sum: number) => ((sum * 1000) / (PUSHES * ROUNDS)).toFixed(1)
  for (const [kind, { main, total, seconds }] of sums) {
    console.log(
      `push, ${kind}: ${per(main)} ms of CPU in Node, ${per(total)} with Postgres, ${per(seconds)} ms`,
    )
  }
}

const EMPTY = Buffer.from('{}')

/** Pushes blobs in single requests, and then the manifest. Each push has unique bytes but the config. */
async function push(of: Server, kind: string, serial: number): Promise<void> {
  const layers = []
  for (const [role, source] of sources) {
    const own = role === 'kernel' || role === 'debug' || kind !== 'lists stored'
    const bytes = own ? Buffer.concat([source, Buffer.from(`\n# ${serial}\n`)]) : source
    // An environment has no comments.
    const content =
      role === 'build-environment' && own
        ? Buffer.concat([source, Buffer.from(`\nN=${serial}\n`)])
        : bytes
    const digest = await pushBlob(of, kind, content)
    const mediaType =
      kind === 'opaque'
        ? 'application/vnd.oci.image.layer.v1.tar+gzip'
        : `application/vnd.unikernel.${role}.v1`
    layers.push({ mediaType, digest, size: content.length })
  }
  const digest = await pushBlob(of, kind, EMPTY)
  const config = { mediaType: 'application/vnd.oci.empty.v1+json', digest, size: EMPTY.length }
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const answer = await ask(of, `/v2/bench/${kind.replace(' ', '-')}/manifests/v${serial}`, {
    method: 'PUT',
    headers: { 'content-type': mediaType },
    body: JSON.stringify({ schemaVersion: 2, mediaType, config, layers }),
  })
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`)
}

/** Pushes a blob in one request, and returns its digest. */
async function pushBlob(of: Server, kind: string, bytes: Uint8Array): Promise<string> {
  const digest = await sha256(bytes)
  const path = `/v2/bench/${kind.replace(' ', '-')}/blobs/uploads/?digest=${digest}`
  const answer = await ask(of, path, {
    method: 'POST',
    headers: { 'content-type': 'application/octet-stream' },
    body: new Uint8Array(bytes),
  })
  if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`)
  await answer.arrayBuffer()
  return digest
}

async function sha256(bytes: Uint8Array): Promise<string> {
  const { createHash } = await import('node:crypto')
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

function ask(of: Server, path: string, init: RequestInit = {}): Promise<Response> {
  const authorization = /Basic \S+/.exec(of.credentials)?.[0] ?? ''
  return fetch(of.origin + path, { ...init, headers: { ...init.headers, authorization } })
}

/** Inserts images into the database as pushes do: pushing ten thousand takes longer. */
async function seed(): Promise<void> {
  await withDatabase({ ...process.env, ROOKERY_DATA_DIR: folder }, async ({ db }) => {
    for (const statement of SEED) await db.query(statement)
    return 0
  })
  console.log(`${IMAGES} images with ${PACKAGES_AN_IMAGE} packages each`)
}

const SEED = [
  `insert into repositories (name, visibility)
   select 'seed/r' || r, case when r % 10 = 0 then 'private' else 'public' end
     from generate_series(1, 100) as r`,
  `insert into packages (ecosystem, name, version)
   select 'opam', 'pkg-' || p, v || '.' || (p % 7) || '.0'
     from generate_series(1, 600) as p, generate_series(1, 12) as v`,
  `insert into blobs (digest, size, storage_key, unchecked)
   select 'sha256:f' || lpad(to_hex(i), 63, '0'), 100, 'seed/' || i, false
     from generate_series(1, ${2 * IMAGES}) as i`,
  `insert into manifests (repository_id, digest, media_type, bytes, pushed_by, analyzer_version)
   select r.id, 'sha256:e' || lpad(to_hex(i), 63, '0'), 'application/vnd.oci.image.manifest.v1+json',
          '{}', 'bench', ${ANALYZER_VERSION}
     from generate_series(1, ${IMAGES}) as i
     join repositories r on r.name = 'seed/r' || (1 + i % 100)`,
  `insert into tags (repository_id, name, digest)
   select repository_id, 'v' || id, digest
     from manifests
    where pushed_by = 'bench'`,
  `insert into images (manifest_id, repository_id, kernel_digest, target, abi_version, devices, input_id)
   select id, repository_id, 'sha256:d' || lpad(to_hex(id), 63, '0'), 'hvt', 2, '{net:service}',
          lpad(to_hex(id), 64, '0')
     from manifests
    where pushed_by = 'bench'`,
  `insert into image_layers (manifest_id, blob_id, role)
   select m.id, b.id, 'opam-switch'
     from (select id, row_number() over (order by id) as n from manifests where pushed_by = 'bench') m
     join blobs b on b.storage_key = 'seed/' || m.n`,
  // The first hundred packages are in every image; of the other 500 each has fifty. In steps, because a statement has a limit.
  ...Array.from(
    { length: STEPS },
    (_, step) => `insert into layer_packages (package_id, blob_id)
   select p.id, b.id
     from generate_series(${1 + (step * IMAGES) / STEPS}, ${((step + 1) * IMAGES) / STEPS}) as i
     join blobs b on b.storage_key = 'seed/' || i
    cross join generate_series(1, ${PACKAGES_AN_IMAGE}) as n
     join packages p
       on p.ecosystem = 'opam'
      and p.name = 'pkg-' || case when n <= 100 then n else 100 + (i * 50 + n) % 500 + 1 end
      and p.version = (1 + i * 12 / ${IMAGES + 1}) || '.' || (case when n <= 100 then n else 100 + (i * 50 + n) % 500 + 1 end % 7) || '.0'
       on conflict do nothing`,
  ),
  'analyze',
]

/** Sends one query after the other, as a person does. */
async function measureQueries(of: Server): Promise<void> {
  const questions: [what: string, path: string][] = [
    ['a package of every image, the newest 100', 'packages/opam/pkg-1'],
    ['the same, versions >= 3 & < 9', 'packages/opam/pkg-1?version=%3E%3D3%20%26%20%3C9'],
    ['the same, the oldest version', 'packages/opam/pkg-1?version=%3C%202'],
    ['the same, a page of 1000', 'packages/opam/pkg-1?n=1000'],
    ['a package of every tenth image', 'packages/opam/pkg-333'],
    ['a version that no image has', 'packages/opam/pkg-1?version=%3E%2099'],
    ['a package that no image has', 'packages/opam/nothing'],
    ['images of a repository with a filter', 'repositories/seed/r7/images?target=hvt&device=net'],
    ['images with a kernel', `kernels/sha256:d${'0'.repeat(59)}1389`],
  ]
  for (const [what, path] of questions) {
    const times: number[] = []
    let found = 0
    const before = readCpu(of.mainPid, of.roots())
    for (let count = 0; count < QUERIES; count += 1) {
      const start = performance.now()
      const answer = await fetch(`${of.origin}/api/v1/${path}`)
      const body = (await answer.json()) as { images: unknown[] }
      times.push(performance.now() - start)
      found = body.images.length
      await setTimeout(REST_MILLISECONDS)
    }
    const after = readCpu(of.mainPid, of.roots())
    times.sort((a, b) => a - b)
    const at = (part: number) => times[Math.floor(part * (times.length - 1))]?.toFixed(1)
    const cpu = (((after.totalSeconds - before.totalSeconds) * 1000) / QUERIES).toFixed(1)
    console.log(
      `${what}: ${found} found; median ${at(0.5)} ms, p99 ${at(0.99)} ms; ${cpu} ms of CPU`,
    )
  }
}

const parent = resolve(process.env.ROOKERY_BENCH_DIR ?? join(root, '.cache', 'bench'))
mkdirSync(parent, { recursive: true })
const folder = mkdtempSync(join(parent, 'images-'))
// Postgres runs as its own user, which needs access to the folder.
chmodSync(folder, 0o755)
const server = await startRookery(folder, { main: join(root, 'dist', 'main.js') })
try {
  await measurePushes(server)
  await seed()
  await measureQueries(server)
} finally {
  await server.stop()
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}
