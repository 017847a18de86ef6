import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { ask, expectedOf, formOf, messageOf, postImage, pushBuild } from './image-fixtures.ts'

type Listed = { digest: string; repository: string; tags: string[]; version?: string }

let registry: TestRegistry

// The queries are about the whole registry, so this file has its own.
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

describe('the images that contain a package', () => {
  let own: TestRegistry
  beforeAll(async () => {
    own = await startRegistry()
    await pushBuild(own, 'a/1', 'v1', 'hello-key-1')
    await pushBuild(own, 'a/2', 'v2', 'hello-key-2')
    await pushBuild(own, 'a/2', 'live', 'hello-key-4-same-input-different-output')
    await pushBuild(own, 'a/3', 'v3', 'hello-key-3-freebsd-same-output')
  })
  afterAll(() => own.close())

  const hits = async (path: string, version?: string) => {
    const query = version === undefined ? '' : `?version=${encodeURIComponent(version)}`
    const { images } = await ask(own, `packages/${path}${query}`)
    return images.map(({ repository, tags, version: is }: Listed) => [repository, tags.join(), is])
  }
  const first = ['a/1', 'v1', '3.23.1']
  const later = [
    ['a/3', 'v3', '3.24.2'],
    ['a/2', 'live', '3.24.2'],
    ['a/2', 'v2', '3.24.2'],
  ]

  it('of opam, in all versions or some', async () => {
    expect(await hits('opam/dune')).toEqual([...later, first])
    expect(await hits('opam/dune', '>= 3.24')).toEqual(later)
    expect(await hits('opam/dune', '< 3.24')).toEqual([first])
    expect(await hits('opam/dune', '= 3.23.1 | > 3.24.1 & < 3.24.2')).toEqual([first])
    expect(await hits('opam/dune', '!= 3.23.1')).toEqual(later)
    expect(await hits('opam/dune', '> 4')).toEqual([])
    expect(await hits('opam/dunes')).toEqual([])
  })

  it('of the build host, by the version order of its package manager', async () => {
    expect((await hits('deb/bash')).length).toBe(3)
    expect(await hits('deb/bash', '< 5')).toEqual([])
    expect((await hits('deb/bash', '>= 5.2.15-2+b8')).length).toBe(2)
    expect(await hits('freebsd/bash')).toEqual([['a/3', 'v3', '5.2.37']])
    expect(await hits('deb/libseccomp-dev')).toHaveLength(2)
  })

  const pages = async (first: string): Promise<Listed[][]> => {
    const found: Listed[][] = []
    let path: string | undefined = `/api/v1/packages/${first}`
    while (path !== undefined) {
      const answer = await own.anonymous(path)
      expect(answer.status).toBe(200)
      found.push(((await answer.json()) as { images: Listed[] }).images)
      path = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1]
      expect(found.length).toBeLessThan(10)
    }
    return found
  }

  it('are paged', async () => {
    const seen = (await pages('opam/dune?n=1&version=%3E%3D3'))
      .flat()
      .map(({ repository, version }) => `${repository} ${version}`)
    expect(seen).toEqual(['a/3 3.24.2', 'a/2 3.24.2', 'a/2 3.24.2', 'a/1 3.23.1'])
  })

  it('are paged, also where one host has two versions', async () => {
    const list = Buffer.from('both:amd64=1.0-1\nboth:i386=1.1-1\nboth:arm64=1.0-1\n')
    const form = formOf('hello-key-2', { 'system-packages': list })
    expect((await postImage(own, 'b/1', '?tag=v1', form)).status).toBe(201)
    expect((await postImage(own, 'b/2', '?tag=v1', form)).status).toBe(201)
    const seen = (await pages('deb/both?n=1'))
      .flat()
      .map(({ repository, version }) => `${repository} ${version}`)
    expect(seen.sort()).toEqual(['b/1 1.0-1', 'b/1 1.1-1', 'b/2 1.0-1', 'b/2 1.1-1'])
  })

  it('are paged, also after many that the caller may not see', async () => {
    const client = new pg.Client(own.databaseUrl)
    await client.connect()
    // Lists of deleted images: for the caller they are like those of private images.
    await client.query(
      `with made as (
         insert into blobs (digest, size, storage_key)
         select 'sha256:' || lpad(to_hex(i), 64, '0'), 1, 'made/' || i
           from generate_series(1, 2500) as i
         returning id
       )
       insert into layer_packages (package_id, blob_id)
       select p.id, made.id
         from packages p, made
        where p.name = 'bigstringaf'`,
    )
    await client.end()
    const found = await pages('opam/bigstringaf')
    expect(found[0]?.length).toBeGreaterThan(0)
    expect(found.flat().length).toBeGreaterThan(0)
  })

  it.each([
    ['opam/dune?version=3.24', /at character 1, expected one of = != < <= > >= before a version/],
    ['opam/dune?version=%3E%3D', /found the end/],
    ['npm/left-pad', /the ecosystem must be one of opam, deb, apk, freebsd/],
    ['opam/dune?last=1', /last must be the cursor from the previous page/],
    ['opam/%00', /NUL/],
  ])('%s is refused', async (path, message) => {
    const answer = await own.anonymous(`/api/v1/packages/${path}`)
    expect(answer.status).toBe(400)
    expect(await messageOf(answer)).toMatch(message)
  })

  it('end with the deletion of an image', async () => {
    const gone = await pushBuild(own, 'a/4', 'v4', 'hello-key-1')
    expect((await hits('opam/dune', '= 3.23.1')).length).toBe(2)
    await own.request(`/v2/a/4/manifests/${gone}`, { method: 'DELETE' })
    expect(await hits('opam/dune', '= 3.23.1')).toEqual([first])
  })
})

describe('private images are visible', () => {
  it('only to callers that may pull them', async () => {
    const own = await startRegistry({ ROOKERY_DEFAULT_VISIBILITY: 'private' })
    try {
      await pushBuild(own, 'secret/www', 'v1')
      const made = await own.request('/api/v1/credentials', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ name: 'host', repositories: ['secret/**'], actions: ['pull'] }),
      })
      const { secret } = (await made.json()) as { secret: string }
      const authorization = `Basic ${Buffer.from(`host:${secret}`).toString('base64')}`
      const { input_id, main_binary_sha256 } = expectedOf('hello-key-1')
      for (const path of [
        `kernels/sha256:${main_binary_sha256}`,
        `inputs/${input_id}`,
        'packages/opam/dune',
      ]) {
        const stranger = await (await own.anonymous(`/api/v1/${path}`)).text()
        expect(stranger).not.toMatch(/secret/)
        expect(JSON.parse(stranger)).toMatchObject(
          path.startsWith('inputs') ? { outputs: [] } : { images: [] },
        )
        const host = await own.anonymous(`/api/v1/${path}`, { headers: { authorization } })
        expect(await host.text()).toMatch(/"repository":"secret\/www"/)
      }
      const path = '/api/v1/repositories/secret/www/images'
      for (const more of ['', '/v1', '/v1/kernel', '/v1/compare/v1']) {
        expect((await own.anonymous(path + more)).status).toBe(401)
        const host = await own.anonymous(path + more, { headers: { authorization } })
        expect(host.status).toBe(200)
        await host.arrayBuffer()
      }
    } finally {
      await own.close()
    }
  })
})
