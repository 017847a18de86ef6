import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest'
import { basic, makeCredential } from '../auth/credentials-client.ts'
import { addDeployment, endDeployment } from '../deployments/deployment-rows.ts'
import { formOf, postImage } from '../images/image-fixtures.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { digestOf } from '../support/digest.ts'
import { enrolHost } from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { call, type RequestFunction } from './described-request.ts'
import { seen } from './expect-answer.ts'
import { OPERATIONS, type Operation, partOf, partsOf } from './openapi-document.ts'
import {
  BUILD_ID,
  failureForm,
  isManagement,
  isOfHost,
  isWebhook,
  keyOf,
  pathOf,
  rightBody,
  WRONG,
} from './wrong-requests.ts'

const BLOB_BYTES_MAX = 8 * 1024 * 1024

let registry: TestRegistry
/** A deployment that has ended. */
let deployment: string
let admin: RequestFunction
let anybody: RequestFunction

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
    ROOKERY_BLOB_BYTES_MAX: String(BLOB_BYTES_MAX),
  })
  admin = registry.request
  anybody = registry.anonymous
  const texts = { console: Buffer.from('built\n'), script: Buffer.from('make\n') }
  const image = await postImage(registry, 'a/b', '?tag=v1', formOf('hello-key-1', texts))
  expect(image.status).toBe(201)
  deployment = await addDeployment(registry, 'a/b')
  await endDeployment(registry, deployment, 'succeeded')
})
afterAll(() => registry.close())

const ASKED = OPERATIONS.filter((operation) => !isOfHost(operation))

/** Returns the operations that describe a response with this status. */
const answering = (status: number, among: readonly Operation[] = ASKED) =>
  among
    .filter(({ place }) => partOf(place, 'responses', String(status)) !== undefined)
    .map((operation) => [keyOf(operation), operation] as const)

const isDeployment = ({ path }: Operation) => path.startsWith('/api/v1/deployments/')
const existing = (operation: Operation) => pathOf(operation).replace(BUILD_ID, deployment)
const isUpload = ({ path }: Operation) => path.startsWith('/upload/')
const withSecurity = ASKED.filter((operation) => !isUpload(operation))
const withRights = withSecurity.filter(
  (operation) => !isWebhook(operation) && !isManagement(operation),
)
const uploads = OPERATIONS.filter(isUpload)

let addresses = 0
/** The login throttle counts by address, too, so each request comes from another address. */
function fromElsewhere(): Record<string, string> {
  addresses += 1
  return { 'x-forwarded-for': `10.0.${addresses >> 8}.${addresses & 255}` }
}

/** An upload URL for tag `v2`. */
async function createUploadUrl(
  as: RequestFunction = admin,
  headers: Record<string, string> = {},
): Promise<string> {
  const path = '/api/v1/repositories/a/b/tags/v2/upload-urls'
  const { body } = await call(as, 'POST', path, undefined, headers)
  return String(body.url)
}
const named = (url: string, { path }: Operation) => (path.endsWith('{file}') ? `${url}/file` : url)

async function expectStatus(
  status: number,
  ask: RequestFunction,
  operation: Operation,
  {
    path = pathOf(operation),
    sent = rightBody(operation),
    headers = {},
  }: { path?: string; sent?: unknown; headers?: Record<string, string> } = {},
): Promise<void> {
  const answer = await call(ask, operation.method, path, sent, headers)
  expect({ path, status: answer.status }).toEqual({ path, status })
}

describe('authentication fails as described', () => {
  it.each(answering(401))('401 with a wrong secret: %s', async (_key, operation) => {
    const headers = { authorization: basic('admin', 'wrong'), ...fromElsewhere() }
    await expectStatus(401, anybody, operation, { headers })
  })

  it.each(answering(401))(
    '401 without a credential, where one is required: %s',
    async (_key, operation) => {
      const { security } = operation.place.node
      if (JSON.stringify(security ?? '').startsWith('[{}')) return
      await expectStatus(401, anybody, operation)
    },
  )

  it.each(answering(403, withRights))(
    '403 with another credential: %s',
    async (_key, operation) => {
      const other = await makeCredential(registry, { repositories: ['c/**'], actions: ['pull'] })
      const headers = { authorization: basic(other.name, other.secret) }
      const path = isDeployment(operation) ? existing(operation) : pathOf(operation)
      await expectStatus(403, anybody, operation, { path, headers })
    },
  )

  it.each(answering(403, uploads))('403 from another network: %s', async (_key, operation) => {
    const bound = { repositories: ['a/b'], actions: ['push'], networks: ['192.0.2.0/24'] }
    const { name, secret } = await makeCredential(registry, bound)
    const within = { authorization: basic(name, secret), 'x-forwarded-for': '192.0.2.7' }
    const path = named(await createUploadUrl(anybody, within), operation)
    await expectStatus(403, anybody, operation, { path, headers: fromElsewhere() })
  })

  it.each(answering(429, withSecurity))(
    '429 after too many wrong secrets: %s',
    async (_key, operation) => {
      const from = fromElsewhere()
      const guess = (secret: string) => ({ authorization: basic('admin', secret), ...from })
      for (let wrong = 0; wrong < 25; wrong += 1) {
        await anybody('/v2/', { headers: guess(`wrong ${wrong}`) })
      }
      await expectStatus(429, anybody, operation, { headers: guess('another') })
    },
  )

  it.each(answering(429, uploads))(
    '429 after too many wrong upload URLs: %s',
    async (_key, operation) => {
      const headers = fromElsewhere()
      for (let wrong = 0; wrong < 25; wrong += 1) {
        await anybody(`/upload/wrong${wrong}`, { method: 'PUT', headers, body: 'a kernel' })
      }
      await expectStatus(429, anybody, operation, { headers })
    },
  )
})

const withSurprise = (path: string) => `${path}${path.includes('?') ? '&' : '?'}surprise=1`

describe('requests are refused as described', () => {
  it.each(answering(400, withSecurity))(
    '400 for an invalid request: %s',
    async (key, operation) => {
      const requests = [...(WRONG[key] ?? []), { path: withSurprise(pathOf(operation)) }]
      for (const wrong of requests) await expectStatus(400, admin, operation, wrong)
    },
  )

  it.each(answering(400, uploads))('400 for an invalid file: %s', async (_key, operation) => {
    const path = named(await createUploadUrl(), operation)
    await expectStatus(400, anybody, operation, { path, sent: new Blob([]) })
    await expectStatus(400, anybody, operation, { path, sent: new FormData() })
    await expectStatus(400, anybody, operation, { path: `${path}?surprise=1` })
    const headers = { 'content-range': 'bytes 0-5/10' }
    await expectStatus(400, anybody, operation, { path, headers })
  })

  it.each(answering(404))('404 for a missing resource: %s', async (_key, operation) => {
    const path = pathOf(operation, 'never/was')
    await expectStatus(404, admin, operation, { path, headers: fromElsewhere() })
  })

  const isRollback = ({ path }: Operation) => path.endsWith('/rollback')
  const isBuild = ({ path }: Operation) =>
    /^\/api\/v1\/repositories\/\{repository\}\/(?:images|builds)$/.test(path)
  const isRotation = ({ path }: Operation) => path === '/api/v1/credentials/{name}/rotate-secret'
  const naming = ASKED.filter(
    (operation) =>
      ![isRollback, isDeployment, isRotation, isWebhook, isBuild, isManagement].some((is) =>
        is(operation),
      ),
  )
  it.each(answering(409, naming))('409 when the name is taken: %s', async (_key, operation) => {
    await expectStatus(201, admin, operation)
    // A code takes no name: the host that uses it does.
    const isCode = operation.path === '/api/v1/enrolments'
    if (isCode) await enrolHost(registry, { name: 'runs-already' })
    const sent = isCode ? { name: 'runs-already', repositories: ['**'] } : rightBody(operation)
    await expectStatus(409, admin, operation, { sent })
  })

  it.each(answering(409, OPERATIONS.filter(isDeployment)))(
    '409 when the deployment has ended, or the tag has another image: %s',
    async (_key, operation) => {
      await expectStatus(409, admin, operation, { path: existing(operation) })
    },
  )

  it.each(answering(409, OPERATIONS.filter(isBuild)))(
    '409 when the id of the build is that of another manifest: %s',
    async (_key, operation) => {
      const headers = { 'rookery-build': randomUUID() }
      const report = failureForm()
      report.append('opam-switch', new Blob([randomUUID()]), 'opam-switch')
      const builds = '/api/v1/repositories/a/b/builds'
      const first = await call(admin, 'POST', builds, report, headers)
      expect(first.status).toBe(201)
      await expectStatus(409, admin, operation, { headers })
    },
  )

  it.each(answering(409, OPERATIONS.filter(isRotation)))(
    '409 while an earlier secret is valid: %s',
    async (_key, operation) => {
      const path = pathOf(operation).replace('missing', 'taken')
      await expectStatus(200, admin, operation, { path })
      await expectStatus(409, admin, operation, { path })
    },
  )

  const rollbacks = OPERATIONS.filter(isRollback)
  it.each(answering(409, rollbacks))(
    '409 without an earlier position: %s',
    async (_key, operation) => {
      await expectStatus(409, admin, operation, {
        path: pathOf(operation).replace('missing', 'v1'),
      })
    },
  )

  it.each(answering(410))('410 for a used URL: %s', async (_key, operation) => {
    const path = named(await createUploadUrl(), operation)
    await expectStatus(201, anybody, operation, { path })
    await expectStatus(410, anybody, operation, { path })
  })

  it.each(answering(412))('412 when a tag has another digest: %s', async (_key, operation) => {
    const path = isRollback(operation)
      ? pathOf(operation).replace('missing', 'v1')
      : `${pathOf(operation)}?tag=v1`
    for (const headers of [{ 'if-none-match': '*' }, { 'if-match': `"${digestOf('another')}"` }]) {
      await expectStatus(412, admin, operation, { path, headers })
    }
  })

  it.each(answering(413))('413 for a body that is too large: %s', async (_key, operation) => {
    const large = new Blob([new Uint8Array(BLOB_BYTES_MAX + 1)])
    const form = new FormData()
    form.append('kernel', large, 'kernel')
    const path = isUpload(operation) ? named(await createUploadUrl(), operation) : pathOf(operation)
    const isForm = partOf(operation.place, 'requestBody', 'content', 'multipart/form-data')
    const sent = isUpload(operation) ? large : isForm ? form : { name: 'x'.repeat(70_000) }
    await expectStatus(413, admin, operation, { path, sent })
  })

  it.each(answering(414))('414 with too many tags: %s', async (_key, operation) => {
    const tags = Array.from({ length: 65 }, (_, index) => `tag=t${index}`).join('&')
    await expectStatus(414, admin, operation, { path: `${pathOf(operation)}?${tags}` })
  })

  it.each(answering(416))('416 for a range outside of the kernel: %s', async (_key, operation) => {
    const { body } = await call(admin, 'POST', '/api/v1/repositories/a/b/builds', failureForm())
    const path = pathOf(operation).replace('missing', 'v1').replace(BUILD_ID, String(body.build))
    await expectStatus(416, anybody, operation, { path, headers: { range: 'bytes=99999999-' } })
  })
})

describe('without its database', () => {
  let folder: string
  let database: TestDatabase
  let lonely: TestRegistry

  beforeAll(async () => {
    const { host, port } = inject('postgres')
    const socket = `.s.PGSQL.${port}`
    folder = await mkdtemp(join(tmpdir(), 'rookery-test-socket-'))
    await symlink(join(host, socket), join(folder, socket))
    database = await createTestDatabase()
    const url = new URL(database.url)
    url.searchParams.set('host', folder)
    lonely = await startRegistry({ ROOKERY_DATABASE_URL: url.href })
    await rm(join(folder, socket))
    await database.drop()
  })
  afterAll(async () => {
    await lonely.close()
    await rm(folder, { recursive: true, force: true })
  })

  it.each(answering(503))('503 with Retry-After: %s', async (_key, operation) => {
    const ask = isUpload(operation) ? lonely.anonymous : lonely.request
    await expectStatus(503, ask, operation)
  })
})

/** Their refusals of a valid request depend on their state. */
const hasOwnTest = (operation: Operation) => isWebhook(operation) || isManagement(operation)

it('the tests saw every described refusal', () => {
  const described = ASKED.flatMap((operation) =>
    partsOf(operation.place, 'responses')
      .filter(([status]) => /^[45]/.test(status))
      .filter(([status]) => !hasOwnTest(operation) || !['403', '409'].includes(status))
      .map(([status]) => `${keyOf(operation)} ${status}`),
  )
  expect(described.filter((one) => !seen.has(one))).toEqual([])
})
