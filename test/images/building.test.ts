import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { newRepository } from '../support/push.ts'
import { RawConnection } from '../support/raw-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  ask,
  BUILDS,
  FILE_ROLES,
  FILES,
  fixture,
  fixtureOf,
  formOf,
  messageOf,
  postImage,
  pushBuild,
  pushLayers,
} from './image-fixtures.ts'

const BLOB_BYTES_MAX = 5_000_000
type Made = { digest: string; layers: { role: string; title: string; digest: string }[] }

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry({ ROOKERY_BLOB_BYTES_MAX: String(BLOB_BYTES_MAX) })
})
afterAll(() => registry.close())

const tagsOf = async (repository: string) => {
  const answer = await registry.request(`/v2/${repository}/tags/list`)
  return answer.status === 404 ? [] : ((await answer.json()) as { tags: string[] }).tags
}

describe('an image in one request', () => {
  it.each(BUILDS)('%s is stored under its tags', async (build) => {
    const repository = newRepository()
    const answer = await postImage(registry, repository, '?tag=live&tag=v1', formOf(build))
    expect(answer.status).toBe(201)
    const made = (await answer.json()) as Made
    expect(answer.headers.get('docker-content-digest')).toBe(made.digest)
    expect(answer.headers.get('etag')).toBe(`"${made.digest}"`)
    expect(answer.headers.get('location')).toBe(`/v2/${repository}/manifests/${made.digest}`)
    expect(made).toMatchObject({ repository, tags: ['live', 'v1'] })
    expect(made.layers.map(({ role, title, digest }) => [role, title, digest])).toEqual(
      FILE_ROLES.map((role) => [
        role,
        FILES[role].replace('bin/', ''),
        digestOf(fixtureOf(build, role)),
      ]),
    )
    for (const tag of ['live', 'v1']) {
      const manifest = await registry.request(`/v2/${repository}/manifests/${tag}`)
      expect(manifest.headers.get('docker-content-digest')).toBe(made.digest)
    }
    for (const role of FILE_ROLES) {
      const digest = digestOf(fixtureOf(build, role))
      const blob = await registry.request(`/v2/${repository}/blobs/${digest}`)
      expect(digestOf(Buffer.from(await blob.arrayBuffer()))).toBe(digest)
    }
  })

  it('has the same manifest in any order of its parts, in any repository', async () => {
    const digests = new Set<string>()
    for (const roles of [FILE_ROLES, FILE_ROLES.toReversed()]) {
      const form = new FormData()
      for (const role of roles) {
        const name = FILES[role].replace('bin/', '')
        form.append(role, new Blob([new Uint8Array(fixtureOf('hello-key-1', role))]), name)
      }
      const made = await postImage(registry, newRepository(), '?tag=live', form)
      digests.add(((await made.json()) as Made).digest)
    }
    expect(digests.size).toBe(1)
  })

  it('has the given time, else the time of its sources, else none', async () => {
    const createdOf = async (form: FormData) => {
      const repository = newRepository()
      await postImage(registry, repository, '?tag=live', form)
      const manifest = await registry.request(`/v2/${repository}/manifests/live`)
      const { annotations } = (await manifest.json()) as { annotations: Record<string, string> }
      return annotations['org.opencontainers.image.created']
    }
    expect(await createdOf(formOf('hello-key-1'))).toBe('2020-05-10T19:14:47Z')
    const alone = formOf('hello-key-1', { 'build-environment': null })
    expect(await createdOf(alone)).toBe('1970-01-01T00:00:00Z')
    for (const first of [true, false]) {
      const form = new FormData()
      if (first) form.append('created', '2026-05-20T18:07:42Z')
      for (const [name, value] of formOf('hello-key-1')) form.append(name, value)
      if (!first) form.append('created', '2026-05-20T18:07:42Z')
      expect(await createdOf(form)).toBe('2026-05-20T18:07:42Z')
    }
  })

  it('without a tag is found by its digest', async () => {
    const repository = newRepository()
    const answer = await postImage(registry, repository, '', formOf('hello-key-1'))
    expect(answer.status).toBe(201)
    const { digest } = (await answer.json()) as Made
    expect(await tagsOf(repository)).toEqual([])
    const facts = await ask(registry, `repositories/${repository}/images/${digest}`)
    expect(facts).toMatchObject({ digest, tags: [] })
  })

  it('moves a tag only from the digest of If-Match', async () => {
    const repository = newRepository()
    const first = await pushBuild(registry, repository, 'live')
    const path = `/api/v1/repositories/${repository}/images?tag=live`
    const send = (match: string) =>
      registry.request(path, {
        method: 'POST',
        body: formOf('hello-key-2'),
        headers: { 'if-match': match },
      })
    expect((await send(`"${digestOf('another')}"`)).status).toBe(412)
    expect((await send(`"${first}"`)).status).toBe(201)
  })

  it('accepts a config, a console and a script', async () => {
    const repository = newRepository()
    const config = Buffer.from(JSON.stringify({ target: 'hvt', memory: 32, argv: ['--ipv4=…'] }))
    const more = { config, console: Buffer.from('+ set -ex\n'), script: Buffer.from('#!/bin/sh\n') }
    const answer = await postImage(registry, repository, '?tag=v1', formOf('hello-key-1', more))
    expect(answer.status).toBe(201)
    const facts = await ask(registry, `repositories/${repository}/images/v1`)
    expect(facts.config).toEqual({ target: 'hvt', memory: 32, argv: ['--ipv4=…'] })
    expect(facts.layers.map(({ role }: { role: string }) => role)).toEqual([
      ...FILE_ROLES.filter((role) => role !== 'readme'),
      ...['console', 'script', 'readme'],
    ])
    const manifest = await registry.request(`/v2/${repository}/manifests/v1`)
    expect(await manifest.json()).toMatchObject({
      config: {
        mediaType: 'application/vnd.unikernel.config.v1+json',
        digest: digestOf(config),
        size: config.length,
      },
    })
  })
})

describe('a wrong form is refused with an explanation, and nothing changes', () => {
  const file = (bytes: string) => new Blob([bytes])
  // As the last part: a client that is refused before it sent everything may not read the response.
  const last = (form: FormData, name: string, value: string | Blob, title?: string) => {
    form.delete(name)
    if (typeof value === 'string') form.append(name, value)
    else form.append(name, value, title)
  }
  const refused: [string, (form: FormData) => void, RegExp][] = [
    [
      'no kernel',
      (form) => form.delete('kernel'),
      /kernel is missing: send it with -F kernel=@FILE/,
    ],
    ['an empty kernel', (form) => last(form, 'kernel', file(''), 'x.hvt'), /kernel is empty/],
    [
      'a kernel that is not an ELF',
      (form) => last(form, 'kernel', file('MZ'), 'x.exe'),
      /x\.exe is not a kernel: it is not an ELF/,
    ],
    [
      'two kernels',
      (form) => form.append('kernel', file('x'), 'x'),
      /the part kernel is given twice/,
    ],
    [
      'an unknown file',
      (form) => form.append('image', file('x'), 'x'),
      /"image" must be one of .*opam-switch/,
    ],
    ['an unknown value', (form) => form.append('tag', 'live'), /"tag" must be one of/],
    ['text for a file', (form) => last(form, 'opam-switch', 'x'), /opam-switch must be a file/],
    ['no time', (form) => form.append('created', 'yesterday'), /created must be a time such as/],
    [
      'no such time',
      (form) => form.append('created', '2026-13-20T18:07:42Z'),
      /created must be a time/,
    ],
    [
      'no such day',
      (form) => form.append('created', '2026-02-31T18:07:42Z'),
      /created must be a time/,
    ],
    [
      'a time with a zone',
      (form) => form.append('created', '2026-02-28T00:00:00+01:00'),
      /created must be a time/,
    ],
    [
      'two times',
      (form) => {
        form.append('created', '2026-02-01T18:07:42Z')
        form.append('created', '2026-02-02T18:07:42Z')
      },
      /created is given twice/,
    ],
    [
      'a name like a folder',
      (form) => last(form, 'kernel', file('x'), 'a\u0001'),
      /a file name must have no slash/,
    ],
    [
      'a value too long',
      (form) => form.append('created', 'x'.repeat(5000)),
      /more than 4096 bytes/,
    ],
    [
      'too many parts',
      (form) => {
        for (let part = 0; part < 40; part += 1) form.append('created', '2026-05-20T18:07:42Z')
      },
      /more than 32 parts/,
    ],
  ]
  it.each(refused)('%s', async (_what, spoil, message) => {
    const repository = newRepository()
    const form = formOf('hello-key-1')
    spoil(form)
    const answer = await postImage(registry, repository, '?tag=live', form)
    expect(answer.status).toBe(400)
    expect(await messageOf(answer)).toMatch(message)
    expect(await tagsOf(repository)).toEqual([])
  })

  it('a file that is larger than a blob may be', async () => {
    const form = formOf('hello-key-1', { console: randomBytes(BLOB_BYTES_MAX + 1) })
    const repository = newRepository()
    const answer = await postImage(registry, repository, '?tag=live', form)
    expect(answer.status).toBe(413)
    expect(await tagsOf(repository)).toEqual([])
  })

  it.each([
    ['no form', 'application/octet-stream', 'x', /multipart\/form-data, as curl -F does/],
    ['no boundary', 'multipart/form-data;', 'x', /must have a boundary/],
    ['another form', 'application/x-www-form-urlencoded', 'kernel=x', /multipart\/form-data/],
    ['nothing', 'multipart/form-data; boundary=x', '', /truncated|kernel is missing/],
    [
      'no end',
      'multipart/form-data; boundary=x',
      '--x\r\nContent-Disposition: form-data; name="kernel"; filename="a"\r\n\r\nabc',
      /truncated/,
    ],
    ['an end alone', 'multipart/form-data; boundary=x', '--x--\r\n', /kernel is missing/],
    [
      'nonsense',
      'multipart/form-data; boundary=x',
      randomBytes(100_000).toString('latin1'),
      /truncated|kernel is missing/,
    ],
  ])('%s', async (_what, type, body, message) => {
    const repository = newRepository()
    const answer = await registry.request(`/api/v1/repositories/${repository}/images?tag=live`, {
      method: 'POST',
      headers: { 'content-type': type },
      body,
    })
    expect(answer.status).toBe(400)
    expect(await messageOf(answer)).toMatch(message)
  })

  it('a client that disconnects in the middle leaves nothing behind', async () => {
    const repository = newRepository()
    const authorization = `Basic ${Buffer.from(`admin:${registry.password}`).toString('base64')}`
    const connection = await RawConnection.open(registry.url)
    await connection.send(
      [
        `POST /api/v1/repositories/${repository}/images?tag=live HTTP/1.1`,
        'Host: x',
        `Authorization: ${authorization}`,
        'Content-Type: multipart/form-data; boundary=b',
        'Content-Length: 1000000',
        '',
        '--b',
        'Content-Disposition: form-data; name="kernel"; filename="a.hvt"',
        '',
        'half a kernel',
      ].join('\r\n'),
    )
    await expect.poll(() => uploadsOf(repository)).toBe(1)
    connection.close()
    await expect.poll(() => tagsOf(repository)).toEqual([])
    await expect.poll(() => uploadsOf(repository)).toBe(0)
  })
})

async function uploadsOf(repository: string): Promise<number> {
  const { default: pg } = await import('pg')
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  try {
    const { rows } = await client.query(
      `select count(*)::int as count
         from uploads u
         join repositories r on r.id = u.repository_id
        where r.name = $1`,
      [repository],
    )
    return rows[0].count
  } finally {
    await client.end()
  }
}

describe('the same image, built in other ways', () => {
  it('by single requests has the same manifest and the same analysis', async () => {
    for (const build of BUILDS) {
      const [one, steps] = [newRepository(), newRepository()]
      const digest = await pushBuild(registry, one, 'live', build)
      const files = FILE_ROLES.map((role) => ({
        mediaType: `application/vnd.unikernel.${role}.v1`,
        bytes: fixtureOf(build, role),
        title: FILES[role].replace('bin/', ''),
      }))
      const answer = await pushLayers(registry, steps, 'live', files, {
        artifactType: 'application/vnd.unikernel.v1',
      })
      expect(answer.status).toBe(201)
      const [first, second] = await Promise.all(
        [one, steps].map((repository) => ask(registry, `repositories/${repository}/images/live`)),
      )
      expect(first.digest).toBe(digest)
      const { repository: _r, digest: _d, pushedAt: _p, ...known } = first
      expect(second).toMatchObject(known)
    }
  })
})

describe('an upload URL', () => {
  const uploadUrlFor = async (repository: string) => {
    const answer = await registry.request(
      `/api/v1/repositories/${repository}/tags/live/upload-urls`,
      {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{}',
      },
    )
    expect(answer.status).toBe(201)
    return ((await answer.json()) as { url: string }).url
  }

  it('accepts a whole image', async () => {
    const repository = newRepository()
    const url = await uploadUrlFor(repository)
    const answer = await fetch(url, { method: 'PUT', body: formOf('hello-key-1') })
    expect(answer.status).toBe(201)
    const { digest } = (await answer.json()) as Made
    expect(digest).toBe(await pushBuild(registry, newRepository(), 'live'))
    expect((await fetch(url, { method: 'PUT', body: 'another kernel' })).status).toBe(410)
  })

  it('recognizes a kernel by its notes', async () => {
    const repository = newRepository()
    const kernel = fixture('elf/mini-net.hvt')
    const answer = await fetch(`${await uploadUrlFor(repository)}/mini-net.hvt`, {
      method: 'PUT',
      body: new Uint8Array(kernel),
    })
    expect(answer.status).toBe(201)
    const facts = await ask(registry, `repositories/${repository}/images/live`)
    expect(facts).toMatchObject({
      kernel: { digest: digestOf(kernel), title: 'mini-net.hvt' },
      devices: [{ kind: 'net', name: 'service' }],
      inputId: null,
    })
  })

  it('refuses a truncated kernel, and can be used again', async () => {
    const repository = newRepository()
    const url = await uploadUrlFor(repository)
    const kernel = fixture('elf/mini-net.hvt')
    const cut = kernel.subarray(0, kernel.length - 200)
    const refused = await fetch(url, { method: 'PUT', body: new Uint8Array(cut) })
    expect(refused.status).toBe(400)
    expect(await messageOf(refused)).toMatch(/is not a kernel: malformed kernel: at byte/)
    const answer = await fetch(url, { method: 'PUT', body: new Uint8Array(kernel) })
    expect(answer.status).toBe(201)
  })
})
