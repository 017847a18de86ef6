import { readdirSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { basic, requestToken } from '../auth/credentials-client.ts'
import { startIssuer, type TestIssuer } from '../auth/issuer.ts'
import { logIn } from '../auth/session-client.ts'
import { ROOT } from '../house/tree.ts'
import {
  BUILDS,
  expectedOf,
  fixture,
  formOf,
  pushBuild,
  pushLayers,
} from '../images/image-fixtures.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { newRepository, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { call, listAll, nextPage, type RequestFunction } from './described-request.ts'
import { seen } from './expect-answer.ts'
import { OPERATIONS, partsOf } from './openapi-document.ts'
import { isWebhook, pathOf } from './wrong-requests.ts'

let registry: TestRegistry
let issuer: TestIssuer
let admin: RequestFunction
let anybody: RequestFunction

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_OIDC_ALLOW_NETWORKS: '127.0.0.0/8',
    ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
  })
  issuer = await startIssuer()
  admin = registry.request
  anybody = registry.anonymous
})
afterAll(() => Promise.all([issuer.close(), registry.close()]))
const ELSEWHERE =
  /\/(?:events|builds|deployments|rollouts|console|script|readme|kernels|inputs|packages|sources|compare|dependencies|sizes|hosts|enrolments|runs)\b|^\/api\/v1\/images$/
const images = (repository: string) => `/api/v1/repositories/${repository}/images`

function kernelForm(bytes: Buffer, name: string): FormData {
  const form = new FormData()
  form.append('kernel', new Blob([new Uint8Array(bytes)]), name)
  return form
}

describe('images are as described', () => {
  it('when they are built from all kinds of parts, with tags and without', async () => {
    const path = images(newRepository())
    const extra = {
      console: Buffer.from('built\n'),
      script: Buffer.from('make\n'),
      config: Buffer.from(
        JSON.stringify({
          name: 'hello',
          target: 'hvt',
          abi: { target: 'hvt', version: 2 },
          architecture: 'amd64',
          memory: 32,
          argv: ['--ipv4=10.0.0.2/24'],
          created: '2026-05-20T18:07:42Z',
        }),
      ),
    }
    const form = formOf('hello-key-1', extra)
    form.append('created', '2026-05-20T18:07:42Z')
    const made = await call(admin, 'POST', `${path}?tag=v1&tag=live`, form, {
      'if-none-match': '*',
    })
    expect(made).toMatchObject({ status: 201, body: { tags: ['v1', 'live'] } })
    const again = await call(admin, 'POST', path, formOf('hello-key-2'))
    expect(again).toMatchObject({ status: 201, body: { tags: [] } })
    const read = await call(anybody, 'GET', `${path}/v1`)
    expect(read.body).toMatchObject({ config: { memory: 32 }, tags: ['live', 'v1'] })
  })

  it.each(BUILDS)('with the whole analysis of %s', async (build) => {
    const repository = newRepository()
    const digest = await pushBuild(registry, repository, 'v1', build)
    for (const reference of ['v1', digest]) {
      const { body } = await call(anybody, 'GET', `${images(repository)}/${reference}`)
      expect(body).toMatchObject({ digest, inputId: expectedOf(build).input_id })
      for (const part of ['opam', 'systemPackages', 'buildEnvironment', 'buildHashes']) {
        expect(body[part], part).not.toBeNull()
      }
    }
  })

  it.each(readdirSync(`${ROOT}test/fixtures/elf`))('with a kernel only: %s', async (name) => {
    const repository = newRepository()
    await call(
      admin,
      'POST',
      `${images(repository)}?tag=v1`,
      kernelForm(fixture(`elf/${name}`), name),
    )
    const { body } = await call(anybody, 'GET', `${images(repository)}/v1`)
    expect(body).toMatchObject({ opam: null, inputId: null, kernel: { title: name } })
    expect((await call(anybody, 'GET', images(repository))).body).toMatchObject({
      images: [{ kernel: { title: name }, tags: ['v1'] }],
    })
  })

  it('with malformed layers, and layers of an unknown role', async () => {
    const repository = newRepository()
    const pushed = await pushLayers(registry, repository, 'v1', [
      { mediaType: 'application/octet-stream', bytes: fixture('elf/mini-net.hvt') },
      {
        mediaType: 'application/vnd.unikernel.opam-switch.v1',
        bytes: Buffer.from('installed: ['),
        title: 'opam-switch',
      },
      {
        mediaType: 'application/vnd.unikernel.system-packages.v1',
        bytes: Buffer.from('bash=5.2\n\0\n=\nzsh'),
        title: 'system-packages',
      },
      {
        mediaType: 'application/vnd.unikernel.build-environment.v1',
        bytes: Buffer.from('A=1\nA=2\nno variable\nSOURCE_DATE_EPOCH=never'),
        title: 'build-environment',
      },
      {
        mediaType: 'application/vnd.unikernel.build-hashes.v1',
        bytes: Buffer.from(`added: ["a" {"F:${'0'.repeat(32)}"} "b" {"D"} "c" {"L"} "d" {"?"} 7]`),
        title: 'www.build-hashes',
      },
      { mediaType: 'application/x-notes', bytes: Buffer.from('notes') },
    ])
    expect(pushed.status).toBe(201)
    const { body } = await call(anybody, 'GET', `${images(repository)}/v1`)
    expect(body).toMatchObject({
      kernel: { title: null },
      layers: [{}, { role: 'opam-switch' }, {}, {}, {}, { role: null, title: null }],
    })
  })

  it('in pages, also where the slashes of a name are encoded', async () => {
    const repository = newRepository()
    for (const name of ['mini-net.hvt', 'mini.xen', 'mini-arm.hvt']) {
      const form = kernelForm(fixture(`elf/${name}`), name)
      await call(admin, 'POST', `${images(repository)}?tag=${name.replace('.', '-')}`, form)
    }
    for (const name of [repository, repository.replaceAll('/', '%2F')]) {
      expect(await listAll(anybody, `${images(name)}?n=1`, 'images')).toHaveLength(3)
      const filtered = await listAll(
        anybody,
        `${images(name)}?target=hvt&arch=arm64&abi=2`,
        'images',
      )
      expect(filtered).toHaveLength(1)
    }
    const empty = await call(anybody, 'GET', `${images(repository)}?n=0`)
    expect({ next: nextPage(empty), body: empty.body }).toEqual({ body: { images: [] } })
  })

  it('for an index, with a selected kernel', async () => {
    const repository = newRepository()
    const manifests = []
    for (const name of ['mini-net.hvt', 'mini-blk-net2.spt']) {
      const form = kernelForm(fixture(`elf/${name}`), name)
      const { body } = await call(admin, 'POST', images(repository), form)
      const manifest = await registry.request(`/v2/${repository}/manifests/${body.digest}`)
      const size = (await manifest.arrayBuffer()).byteLength
      manifests.push({ mediaType: IMAGE_MANIFEST, digest: body.digest, size })
    }
    const index = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests }
    expect((await putManifest(registry, repository, 'all', index)).status).toBe(201)
    const path = `${images(repository)}/all`
    expect(await call(anybody, 'GET', path)).toMatchObject({ status: 400 })
    const chosen = await call(anybody, 'GET', `${path}?target=spt`)
    expect(chosen.body).toMatchObject({ target: 'spt', digest: manifests[1]?.digest })
    const kernel = await call(anybody, 'GET', `${path}/kernel?target=hvt`)
    expect(kernel.headers.get('oci-image-digest')).toBe(manifests[0]?.digest)
  })

  it('as kernels: whole, in part, and unchanged', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'live')
    const path = `${images(repository)}/live/kernel`
    for (const method of ['HEAD', 'GET']) {
      const whole = await call(anybody, method, path)
      expect(whole.status).toBe(200)
      const etag = whole.headers.get('etag') ?? ''
      const same = await call(anybody, method, path, undefined, { 'if-none-match': etag })
      expect(same.status).toBe(304)
    }
    const range = await call(anybody, 'GET', path, undefined, { range: 'bytes=0-9' })
    expect(range.headers.get('content-range')).toMatch(/^bytes 0-9\//)
    const outside = await call(anybody, 'GET', path, undefined, { range: 'bytes=99999999-' })
    expect(outside.status).toBe(416)
  })
})

describe('the content of images is as described', () => {
  it('as documents', async () => {
    const repository = newRepository()
    await pushBuild(registry, repository, 'v1', 'hello-key-1')
    for (const format of ['cyclonedx', 'spdx', 'slsa']) {
      const path = `${images(repository)}/v1/documents/${format}`
      expect(await call(anybody, 'GET', path)).toMatchObject({ status: 200 })
      // The document names the image's registry.
      const document = await registry.anonymous(path)
      expect(await document.text()).toContain(`"${registry.url}/v2/${repository}/`)
    }
  })
})

describe('tags are as described', () => {
  it('history and rollback', async () => {
    const repository = newRepository()
    const digests: string[] = []
    for (const name of ['mini-net.hvt', 'mini.xen', 'mini-arm.hvt']) {
      const form = kernelForm(fixture(`elf/${name}`), name)
      const { body } = await call(admin, 'POST', `${images(repository)}?tag=live`, form)
      digests.push(String(body.digest))
    }
    const [first, second, third] = digests
    const path = `/api/v1/repositories/${repository}/tags/live`
    const back = (sent?: unknown, headers?: Record<string, string>) =>
      call(admin, 'POST', `${path}/rollback`, sent, headers)
    const undone = await back(undefined, { 'if-match': `"${third}"` })
    expect(undone.body).toMatchObject({ digest: second, previousDigest: third })
    expect((await back({ digest: first })).body).toMatchObject({ digest: first })
    await registry.request(`/v2/${repository}/manifests/live`, { method: 'DELETE' })
    expect((await back()).body).toMatchObject({ previousDigest: null })
    const positions = await listAll(admin, `${path}/history?n=2`, 'positions')
    expect(positions).toHaveLength(7)
    expect(positions[0]).toMatchObject({ reason: 'rollback', actor: 'admin' })
    const [seenByAnybody] = await listAll(anybody, `${path}/history`, 'positions')
    expect(seenByAnybody).not.toHaveProperty('actor')
  })
})

describe('access control is as described:', () => {
  it('upload URLs, and uploads to them', async () => {
    const path = `/api/v1/repositories/${newRepository()}/tags/v1/upload-urls`
    const uploadUrl = async (sent?: unknown) => {
      const { body } = await call(admin, 'POST', path, sent)
      expect(body.url).toMatch(/\/upload\/rku_/)
      return String(body.url)
    }
    const kernel = new Blob([new Uint8Array(fixture('elf/mini-net.hvt'))])
    const put = async (url: string, sent: FormData | Blob) =>
      expect((await call(anybody, 'PUT', url, sent)).status).toBe(201)
    await put(await uploadUrl(), kernel)
    await put(await uploadUrl({}), new Blob(['no kernel']))
    await put(await uploadUrl({ ttlSeconds: 60 }), formOf('hello-key-1'))
    await put(`${await uploadUrl({ ttlSeconds: 3600 })}/hello.hvt`, kernel)
    await put(`${await uploadUrl()}/`, kernel)
  })

  it('settings, and the deletion of a repository', async () => {
    const path = `/api/v1/repositories/${newRepository()}/settings`
    for (const change of [
      {},
      { visibility: 'private', immutableTags: ['v*'], provenance: 'required' },
    ]) {
      expect((await call(admin, 'PUT', path, change)).body).toMatchObject(change)
      expect((await call(admin, 'GET', path)).body).toMatchObject(change)
    }
    expect((await call(admin, 'DELETE', path.replace('/settings', ''))).status).toBe(204)
  })

  it('credentials, with and without limits, in pages, used and revoked', async () => {
    const path = '/api/v1/credentials'
    const requests = [
      { kind: 'admin' },
      { repositories: ['a/**'], actions: ['pull'] },
      {
        repositories: ['a/*', 'b'],
        actions: ['delete', 'push', 'admin', 'pull'],
        tags: ['v*'],
        networks: ['127.0.0.0/8', '::1'],
        expiresAt: '2100-01-01T00:00:00Z',
      },
    ]
    for (const [index, more] of requests.entries()) {
      const name = `c${index}`
      const { body, headers } = await call(admin, 'POST', path, { name, ...more })
      const authorization = basic(name, String(body.secret))
      expect((await registry.anonymous('/v2/', { headers: { authorization } })).status).toBe(200)
      await call(admin, 'POST', `${path}/${name}/rotate-secret`)
      expect(await call(admin, 'DELETE', headers.get('location') ?? '')).toMatchObject({
        status: 204,
      })
    }
    expect(await listAll(admin, `${path}?n=1`, 'credentials')).toHaveLength(3)
  })

  it('trust policies, and the test of a token', async () => {
    const path = '/api/v1/policies'
    const policy = {
      name: 'all',
      issuer: issuer.url,
      audience: 'https://registry.example',
      conditions: { repository: 'octo/*', '/kubernetes.io/namespace': ['ci', 'cd'] },
      repositories: ['builds/**'],
      actions: ['push', 'pull'],
    }
    await call(admin, 'POST', path, policy)
    const bounded = { ...policy, name: 'bounded', tags: ['v*'], tokenSeconds: 60 }
    const { headers } = await call(admin, 'POST', path, bounded)
    expect((await call(admin, 'GET', headers.get('location') ?? '')).status).toBe(200)
    expect(await listAll(admin, `${path}?n=1`, 'policies')).toHaveLength(2)
    const matching = await issuer.token()
    const other = await issuer.token({ repository: 'else/where', exp: 1 })
    const stranger = await issuer.token({ iss: 'https://nobody.example' })
    for (const [token, matches] of [
      [matching, 'all'],
      [other, null],
      [stranger, null],
    ]) {
      const { body } = await call(admin, 'POST', `${path}/test`, { token })
      expect(body.matches).toBe(matches)
    }
    for (const name of ['all', 'bounded']) {
      expect((await call(admin, 'DELETE', `${path}/${name}`)).status).toBe(204)
    }
  })

  it('sessions, of which one and then all end', async () => {
    const path = '/api/v1/sessions'
    for (let count = 0; count < 3; count += 1) {
      await logIn(registry, { name: 'admin', secret: registry.password })
    }
    const { body } = await call(admin, 'GET', path)
    expect(body.sessions).toHaveLength(3)
    const [{ id }] = body.sessions as [{ id: string }]
    expect((await call(admin, 'DELETE', `${path}/${id}`)).status).toBe(204)
    expect((await call(admin, 'GET', `${path}?actor=admin`)).body.sessions).toHaveLength(2)
    expect((await call(admin, 'DELETE', path)).body).toEqual({ ended: 2 })
  })

  it('revoked tokens', async () => {
    const token = await requestToken(
      registry,
      basic('admin', registry.password),
      'registry:admin:*',
    )
    const claims = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()
    const { jti } = JSON.parse(claims)
    expect((await call(admin, 'DELETE', `/api/v1/tokens/${jti}`)).status).toBe(204)
  })

  it('the audit log of all actions above', async () => {
    await registry.anonymous('/v2/', { headers: { authorization: basic('admin', 'wrong') } })
    const refusals = () => listAll(admin, '/api/v1/audit?decision=refused&n=10', 'entries')
    await expect.poll(refusals).not.toEqual([])
    expect((await listAll(admin, '/api/v1/audit?n=20', 'entries')).length).toBeGreaterThan(50)
    const query = 'action=push&actor=admin&since=2026-01-01T00:00:00Z&repository=nowhere'
    expect(await listAll(admin, `/api/v1/audit?${query}`, 'entries')).toEqual([])
  })
})

it('HEAD is supported wherever GET is, with the same status and no body', async () => {
  const gets = OPERATIONS.filter(({ method }) => method === 'GET')
  for (const operation of gets) {
    const path = pathOf(operation, 'never/was')
    const [head, whole] = [await admin(path, { method: 'HEAD' }), await admin(path)]
    expect({ path, status: head.status }).toEqual({ path, status: whole.status })
    expect(await head.text()).toBe('')
  }
})

it('the tests saw every described success', () => {
  const others = OPERATIONS.filter((one) => !isWebhook(one) && !ELSEWHERE.test(one.path))
  const described = others.flatMap(({ method, path, place }) =>
    partsOf(place, 'responses')
      .filter(([status]) => /^[23]/.test(status))
      .map(([status]) => `${method} ${path} ${status}`),
  )
  expect(described.filter((one) => !seen.has(one))).toEqual([])
})
