import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sql } from '../auth/credentials-client.ts'
import { digestOf } from '../support/digest.ts'
import { IMAGE_CONFIG, IMAGE_INDEX } from '../support/media-types.ts'
import {
  expectError,
  newRepository,
  pushBlob,
  pushImage,
  pushImageBlobs,
  putManifest,
  readPages,
} from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})

afterAll(() => registry.close())

describe('end-8: tags', () => {
  const sorted = ['1.10', '1.9', 'A', 'Z', '_x', 'a', 'a-b', 'a.b', 'aa', 'latest']
  let name: string

  beforeAll(async () => {
    name = newRepository()
    const body = JSON.stringify(await pushImageBlobs(registry, name))
    const tags = [...sorted].reverse().map((tag) => `tag=${tag}`)
    await putManifest(registry, name, `${digestOf(body)}?${tags.join('&')}`, body)
  })

  const list = (query = '') => registry.anonymous(`/v2/${name}/tags/list${query}`)

  it('end-8a: are in the order of their bytes', async () => {
    expect(await (await list()).json()).toEqual({ name, tags: sorted })
  })

  it.each([1, 2, 3, 4, 5, 9, 10, 11])('end-8b: pages of %i contain all of them', async (n) => {
    const { pages, links } = await readPages(registry, `/v2/${name}/tags/list?n=${n}`)
    expect(pages.flatMap(({ tags }) => tags)).toEqual(sorted)
    expect(links).toBe(Math.ceil(sorted.length / n) - 1)
  })

  it('end-8b: last need not be a tag, and counts without n', async () => {
    expect(await (await list('?last=a-a')).json()).toEqual({ name, tags: sorted.slice(6) })
    expect(await (await list('?last=zzz')).json()).toEqual({ name, tags: [] })
  })

  it('end-8b: n=0 is an empty page without Link, and a huge n is clamped', async () => {
    const none = await list('?n=0')
    expect(await none.json()).toEqual({ name, tags: [] })
    expect(none.headers.get('link')).toBeNull()
    expect(await (await list('?n=999999999')).json()).toEqual({ name, tags: sorted })
  })

  it('end-8a: without n are up to 10 000, because some clients follow no Link', async () => {
    const many = newRepository()
    await pushImage(registry, many, 't')
    await sql(
      registry,
      `insert into tags (repository_id, name, digest)
       select t.repository_id, 't' || lpad(i::text, 5, '0'), t.digest
         from tags t
         join repositories r on r.id = t.repository_id
        cross join generate_series(1, 10500) as i
        where r.name = $1`,
      [many],
    )
    const first = await registry.anonymous(`/v2/${many}/tags/list`)
    expect(((await first.json()) as { tags: string[] }).tags).toHaveLength(10_000)
    expect(first.headers.get('link')).toContain(`last=t09999&n=1000`)
    const { pages } = await readPages(registry, `/v2/${many}/tags/list`)
    const names = pages.flatMap(({ tags }) => tags)
    expect(names).toHaveLength(10_501)
    expect(names).toEqual([...names].sort())
  })

  it.each(['-1', 'x', '1.5', '1e3', '99999999999999999999', ''])(
    'end-8b: n=%s is 400',
    async (n) => {
      await expectError(await list(`?n=${n}`), 400, 'PAGINATION_NUMBER_INVALID')
    },
  )

  it('end-8a: of a repository that does not exist are 404', async () => {
    const answer = await registry.request(`/v2/${newRepository()}/tags/list`)
    await expectError(answer, 404, 'NAME_UNKNOWN')
  })

  it('end-8a: a repository without tags has an empty list', async () => {
    const bare = newRepository()
    await pushBlob(registry, bare)
    const answer = await registry.anonymous(`/v2/${bare}/tags/list`)
    expect(await answer.json()).toEqual({ name: bare, tags: [] })
  })
})

describe('end-12: referrers', () => {
  const referrers = (name: string, digest: string, query = '') =>
    registry.request(`/v2/${name}/referrers/${digest}${query}`)

  async function attach(
    name: string,
    subject: { digest: string; size: number; mediaType: string },
    more: Record<string, unknown>,
  ) {
    const { mediaType, digest, size } = subject
    return pushImage(registry, name, undefined, { subject: { mediaType, digest, size }, ...more })
  }

  it('end-12a: are descriptors with artifact type and annotations, in an index', async () => {
    const name = newRepository()
    const subject = await pushImage(registry, name, 'v1')
    const annotations = { 'org.example.key': 'välue' }
    const own = await attach(name, subject, { artifactType: 'application/x.sbom', annotations })
    const configured = await attach(name, subject, {})
    const index = {
      schemaVersion: 2,
      mediaType: IMAGE_INDEX,
      manifests: [],
      subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.size },
    }
    const indexBody = JSON.stringify(index)
    await putManifest(registry, name, digestOf(indexBody), index)
    const answer = await referrers(name, subject.digest)
    expect(answer.headers.get('content-type')).toBe(IMAGE_INDEX)
    expect(await answer.json()).toEqual({
      schemaVersion: 2,
      mediaType: IMAGE_INDEX,
      manifests: [
        {
          mediaType: own.mediaType,
          digest: own.digest,
          size: own.size,
          artifactType: 'application/x.sbom',
          annotations,
        },
        {
          mediaType: configured.mediaType,
          digest: configured.digest,
          size: configured.size,
          artifactType: IMAGE_CONFIG,
        },
        { mediaType: IMAGE_INDEX, digest: digestOf(indexBody), size: indexBody.length },
      ],
    })
  })

  it('end-12b: filtered by artifact type have a header for the filter', async () => {
    const name = newRepository()
    const subject = await pushImage(registry, name, 'v1')
    const wanted = await attach(name, subject, { artifactType: 'application/x.sbom' })
    await attach(name, subject, { artifactType: 'application/x.signature' })
    const answer = await referrers(name, subject.digest, '?artifactType=application/x.sbom')
    expect(answer.headers.get('oci-filters-applied')).toBe('artifactType')
    const { manifests } = (await answer.json()) as { manifests: { digest: string }[] }
    expect(manifests.map(({ digest }) => digest)).toEqual([wanted.digest])
    const none = await referrers(name, subject.digest, '?artifactType=application/x.none')
    expect(await none.json()).toMatchObject({ manifests: [] })
  })

  it('end-12a: are never 404 for a digest, and 400 for a malformed one', async () => {
    for (const name of [newRepository(), (await repositoryWithBlob()).name]) {
      const answer = await referrers(name, digestOf('nobody'))
      expect(answer.status).toBe(200)
      expect(await answer.json()).toMatchObject({ schemaVersion: 2, manifests: [] })
    }
    await expectError(await referrers(newRepository(), 'sha256:x'), 400, 'DIGEST_INVALID')
    await expectError(await referrers(newRepository(), 'latest'), 400, 'DIGEST_INVALID')
  })

  it('end-12a: are listed before their subject exists, until they are deleted', async () => {
    const name = newRepository()
    const digest = digestOf(randomBytes(5), 'sha512')
    const early = await attach(name, { mediaType: 'a/b', digest, size: 5 }, {})
    const found = await (await referrers(name, digest)).json()
    expect(found).toMatchObject({ manifests: [{ digest: early.digest }] })
    await registry.request(`/v2/${name}/manifests/${early.digest}`, { method: 'DELETE' })
    expect(await (await referrers(name, digest)).json()).toMatchObject({ manifests: [] })
  })

  it('end-12a: pages contain all of them, also with large annotations', async () => {
    const name = newRepository()
    const subject = await pushImage(registry, name, 'v1')
    const pushed: string[] = []
    for (let count = 0; count < 5; count += 1) {
      const annotations = { padding: 'x'.repeat(1_500_000), count: String(count) }
      pushed.push((await attach(name, subject, { annotations })).digest)
    }
    for (const query of [
      '',
      '?n=1',
      '?n=2',
      '?artifactType=application/vnd.oci.image.config.v1%2Bjson',
    ]) {
      const { pages, links } = await readPages(
        registry,
        `/v2/${name}/referrers/${subject.digest}${query}`,
      )
      const digests = pages.flatMap(({ manifests }) =>
        (manifests as { digest: string }[]).map((m) => m.digest),
      )
      expect(digests).toEqual(pushed)
      expect(links).toBeGreaterThan(1)
    }
  })

  async function repositoryWithBlob() {
    const name = newRepository()
    await pushBlob(registry, name)
    return { name }
  }
})

describe('the catalog and extensions', () => {
  it('lists repositories by pages in the order of their bytes', async () => {
    const names = ['zz/a', 'zz/a-b', 'zz/a/b', 'zz/b']
    for (const name of names) await pushImage(registry, name, 'v1')
    const { pages } = await readPages(registry, '/v2/_catalog?last=zz/&n=3')
    expect(pages.flatMap(({ repositories }) => repositories)).toEqual(names)
  })

  it('lists the extensions of the registry and of a repository', async () => {
    for (const path of ['/v2/_oci/ext/discover', '/v2/a/b/_oci/ext/discover']) {
      expect(await (await registry.request(path)).json()).toEqual({ extensions: [] })
    }
  })
})
