import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ask, expectedOf, formOf } from '../images/image-fixtures.ts'
import { eventBodies } from '../support/events.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'
import { newRepository, pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { Builder } from './builder.ts'

const CONFLICTING = 'hello-key-4-same-input-different-output'

let registry: TestRegistry
let replica: TestRegistry
let first: Builder
let second: Builder

beforeAll(async () => {
  registry = await startRegistry()
  replica = await startRegistry({
    ROOKERY_DATABASE_URL: registry.databaseUrl,
    ROOKERY_DATA_DIR: registry.folder,
    ROOKERY_ADMIN_PASSWORD: registry.password,
  })
  first = await Builder.open(registry)
  second = await Builder.open(registry)
})
afterAll(async () => {
  await replica.close()
  await registry.close()
})

type Listed = { id: string; builder: string; result: string; digest: string | null }

const buildsOf = async (repository: string): Promise<Listed[]> =>
  (await ask(registry, `repositories/${repository}/builds`)).builds

/** Returns the events about builds, among `count` events of the repository. */
async function buildEvents(repository: string, count: number) {
  const bodies = await eventBodies(registry, repository, count)
  return bodies.map((body) => JSON.parse(body)).filter(({ type }) => type.startsWith('build.'))
}

async function sql(text: string, values: unknown[]): Promise<void> {
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  await client.query(text, values)
  await client.end()
}

describe('two builders that push the same files', () => {
  it('make two builds and one reproduction', async () => {
    const repository = newRepository()
    const made = await first.push(registry, repository, 'v1')
    const again = await second.push(registry, repository, 'v1')
    expect(again.digest).toBe(made.digest)
    expect(made.build).not.toBe(null)
    expect(again.build).not.toBe(made.build)
    expect(await buildsOf(repository)).toMatchObject([
      { id: again.build, builder: second.name, result: 'succeeded', digest: made.digest },
      { id: made.build, builder: first.name, result: 'succeeded', digest: made.digest },
    ])
    const { input_id: inputId, main_binary_sha256: kernel } = expectedOf('hello-key-1')
    const events = await buildEvents(repository, 3)
    expect(events).toMatchObject([
      {
        type: 'build.reproduced',
        subject: `${repository}@${made.digest}`,
        data: {
          actor: second.name,
          build: again.build,
          platform: 'debian-12',
          inputId,
          kernelDigest: `sha256:${kernel}`,
          same: [{ id: made.build, digest: made.digest, builder: first.name }],
          other: [],
        },
      },
    ])
  })

  it('at once, on two replicas', async () => {
    for (let round = 0; round < 4; round += 1) {
      const repository = newRepository()
      const pushes = await Promise.all([
        first.push(registry, repository, 'v1'),
        second.push(replica, repository, 'v1'),
      ])
      expect(pushes.map(({ status }) => status)).toEqual([201, 201])
      expect(await buildsOf(repository)).toHaveLength(2)
      expect(await buildEvents(repository, 3)).toMatchObject([{ type: 'build.reproduced' }])
    }
  })

  it('in one request each', async () => {
    const repository = newRepository()
    const path = `/api/v1/repositories/${repository}/images?tag=v1`
    const ids = []
    for (const builder of [first, second]) {
      const answer = await builder.request(registry, path, {
        method: 'POST',
        body: formOf('hello-key-1'),
      })
      ids.unshift(((await answer.json()) as { build: string }).build)
    }
    expect((await buildsOf(repository)).map(({ id }) => id)).toEqual(ids)
    expect(await buildEvents(repository, 3)).toMatchObject([{ type: 'build.reproduced' }])
  })
})

describe('a build from the same inputs with another kernel', () => {
  it('diverges, and names the builds that it differs from', async () => {
    const repository = newRepository()
    const made = await first.push(registry, repository, 'v1', 'hello-key-2')
    const other = await second.push(registry, repository, 'v2', CONFLICTING)
    expect(await buildEvents(repository, 5)).toMatchObject([
      {
        type: 'build.diverged',
        data: { build: other.build, same: [], other: [{ id: made.build, digest: made.digest }] },
      },
    ])
    const { input_id: inputId } = expectedOf(CONFLICTING)
    const found = await ask(registry, `inputs/${inputId}?repository=${repository}`)
    expect(found.reproducible).toBe(false)
  })
})

describe('a push that is repeated', () => {
  it('by the same builder is a retry of its build', async () => {
    const repository = newRepository()
    const made = await first.push(registry, repository, 'v1')
    const again = await first.push(replica, repository, 'v2')
    expect(again.build).toBe(made.build)
    expect(await buildsOf(repository)).toHaveLength(1)
  })

  it('after ten minutes is another build, and a reproduction', async () => {
    const repository = newRepository()
    const made = await first.push(registry, repository, 'v1')
    await sql(`update builds set recorded_at = recorded_at - interval '11 minutes' where id = $1`, [
      made.build,
    ])
    const again = await first.push(registry, repository, 'v1')
    expect(again.build).not.toBe(made.build)
    expect(await buildEvents(repository, 3)).toMatchObject([{ type: 'build.reproduced' }])
  })

  it('with the id that the builder chose is the same build', async () => {
    const repository = newRepository()
    const id = randomUUID()
    const header = { 'rookery-build': id.toUpperCase() }
    expect(await first.push(registry, repository, 'v1', 'hello-key-1', header)).toMatchObject({
      build: id,
    })
    expect(await second.push(registry, repository, 'v1', 'hello-key-1', header)).toMatchObject({
      build: id,
    })
    expect(await buildsOf(repository)).toHaveLength(1)
    const refused = await first.push(registry, repository, 'v2', 'hello-key-2', header)
    expect(refused).toMatchObject({ status: 409 })
    expect(refused.error).toContain(id)
    const other = await first.push(registry, newRepository(), 'v1', 'hello-key-2', header)
    expect(other).toMatchObject({ status: 201, build: id })
  })

  it('refuses an id that is no UUID', async () => {
    const header = { 'rookery-build': '7' }
    const refused = await first.push(registry, newRepository(), 'v1', 'hello-key-1', header)
    expect(refused.status).toBe(400)
    expect(refused.error).toContain('Rookery-Build must be one UUID')
  })
})

describe('a copy is no build', () => {
  /** Reads a manifest by tag as a client that copies it does. */
  const read = async (server: TestRegistry, repository: string, tag: string, reader = second) => {
    const answer = await reader.request(server, `/v2/${repository}/manifests/${tag}`, {
      headers: { accept: IMAGE_MANIFEST },
    })
    return answer.text()
  }

  it('to another tag, also through another replica', async () => {
    const repository = newRepository()
    await first.push(registry, repository, 'v1')
    const bytes = await read(replica, repository, 'v1')
    expect(await second.put(registry, repository, 'live', bytes)).toMatchObject({
      status: 201,
      build: null,
    })
    expect(await buildsOf(repository)).toHaveLength(1)
  })

  describe('although the database records the read late:', () => {
    let locking: pg.Client
    let copier: Builder
    beforeEach(async () => {
      copier = await Builder.open(registry)
      locking = new pg.Client(registry.databaseUrl)
      await locking.connect()
      await locking.query('begin')
      await locking.query('lock table manifest_reads in exclusive mode')
    })
    afterEach(() => locking.end())

    it('the client has the manifest when the read is recorded', async () => {
      const repository = newRepository()
      await first.push(registry, repository, 'v1')
      let isRead = false
      const reading = read(replica, repository, 'v1', copier).finally(() => {
        isRead = true
      })
      await expect.poll(recordsWaiting, { interval: 5 }).toBe(1)
      expect(isRead).toBe(false)
      await locking.query('commit')
      const copied = await copier.put(registry, repository, 'live', await reading)
      expect(copied).toMatchObject({ status: 201, build: null })
    })

    it('the client waits a second at most', async () => {
      const repository = newRepository()
      await first.push(registry, repository, 'v1')
      const bytes = await read(replica, repository, 'v1', copier)
      expect(JSON.parse(bytes).schemaVersion).toBe(2)
      expect(await recordsWaiting()).toBe(1)
      await locking.query('commit')
    })

    async function recordsWaiting(): Promise<number> {
      const { rows } = await locking.query(
        `select count(*)::integer as count
           from pg_locks
          where relation = 'manifest_reads'::regclass
            and not granted`,
      )
      return rows[0].count
    }
  })

  it('to another repository, with mounted blobs', async () => {
    const [source, target] = [newRepository(), newRepository()]
    const { digest } = await first.push(registry, source, 'v1')
    const bytes = await read(registry, source, 'v1')
    const { config, layers } = JSON.parse(bytes)
    for (const blob of [config, ...layers]) {
      const path = `/v2/${target}/blobs/uploads/?mount=${blob.digest}&from=${source}`
      const mounted = await second.request(registry, path, { method: 'POST' })
      expect(mounted.status).toBe(201)
    }
    expect(await second.put(registry, target, 'live', bytes)).toMatchObject({ digest, build: null })
    expect(await buildsOf(target)).toEqual([])
  })

  it('by a client that mounts the kernel and made the manifest itself', async () => {
    const [source, target] = [newRepository(), newRepository()]
    await first.push(registry, source, 'v1')
    const bytes = await (await registry.request(`/v2/${source}/manifests/v1`)).text()
    const { config, layers } = JSON.parse(bytes)
    for (const blob of [config, ...layers]) {
      const path = `/v2/${target}/blobs/uploads/?mount=${blob.digest}&from=${source}`
      expect((await second.request(registry, path, { method: 'POST' })).status).toBe(201)
    }
    expect(await second.put(registry, target, 'live', bytes)).toMatchObject({ build: null })
  })

  it('unless the client says that it is a build', async () => {
    const repository = newRepository()
    await first.push(registry, repository, 'v1')
    await read(registry, repository, 'v1')
    const id = randomUUID()
    const made = await second.push(registry, repository, 'v1', 'hello-key-1', {
      'rookery-build': id,
    })
    expect(made.build).toBe(id)
    expect(await buildEvents(repository, 3)).toMatchObject([{ type: 'build.reproduced' }])
  })
})

it('a manifest that is no unikernel is no build', async () => {
  const repository = newRepository()
  await pushImage(registry, repository, 'v1')
  expect(await buildsOf(repository)).toEqual([])
})

it('a build stays when its image is deleted, and goes with its repository', async () => {
  const repository = newRepository()
  const { digest, build } = await first.push(registry, repository, 'v1')
  const remove = (path: string) => registry.request(path, { method: 'DELETE' })
  expect((await remove(`/v2/${repository}/manifests/${digest}`)).status).toBe(202)
  expect(await buildsOf(repository)).toMatchObject([{ id: build, digest: null }])
  expect((await remove(`/api/v1/repositories/${repository}`)).status).toBeLessThan(300)
  await first.push(registry, repository, 'v1')
  expect(await buildsOf(repository)).toHaveLength(1)
})

it('strangers see builds of a public repository without the names of their builders', async () => {
  const repository = newRepository()
  const builders = [await Builder.open(registry), await Builder.open(registry)]
  const feed = `/api/v1/events?repository=${repository}`
  const { cursor } = (await (await registry.anonymous(feed)).json()) as { cursor: string }
  for (const builder of builders) await builder.push(registry, repository, 'v1')
  const answer = await registry.anonymous(`/api/v1/repositories/${repository}/builds`)
  const { builds } = (await answer.json()) as { builds: { builder: null }[] }
  expect(builds.map(({ builder }) => builder)).toEqual([null, null])
  await eventBodies(registry, repository, 3)
  const events = await registry.anonymous(`${feed}&after=${cursor}`)
  const text = await events.text()
  expect(text).toContain('build.reproduced')
  for (const { name } of builders) expect(text).not.toContain(`"${name}"`)
})
