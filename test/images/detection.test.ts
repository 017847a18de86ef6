import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { newRepository, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  ask,
  type Build,
  expectRefusal,
  FILE_ROLES,
  type FileRole,
  fixture,
  fixtureOf,
  formOf,
  kernel,
  type LayerFile,
  messageOf,
  net,
  PLAIN,
  postImage,
  pushBuild,
  pushLayers,
  UNIKERNEL,
} from './image-fixtures.ts'

const GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip'

const DEVICES: Record<string, number> = {
  'mini-net.hvt': 1,
  'mini-blk-net2.spt': 3,
  'mini-max63.hvt': 63,
  'mini.virtio': 1,
  'mini.xen': 1,
  'mini-arm.hvt': 1,
}

let registry: TestRegistry

beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

const push = (files: LayerFile[], more: Record<string, unknown> = {}, repository?: string) =>
  pushLayers(registry, repository ?? newRepository(), 'v1', files, more)

describe('an image without roles', () => {
  it('may have the same file in several layers', async () => {
    const repository = newRepository()
    const text = { mediaType: PLAIN, bytes: Buffer.from('the same'), title: 'a' }
    const kernels = ['www', 'www.hvt'].map((title) => ({ ...text, bytes: net, title }))
    const files = [text, { ...text, title: 'b' }, ...kernels]
    expect((await push(files, {}, repository)).status).toBe(201)
    const image = await ask(registry, `repositories/${repository}/images/v1`)
    expect(image).toMatchObject({ target: 'hvt' })
  })

  it.each([
    'mini-none.hvt',
    'mini-net.hvt',
    'mini-blk-net2.spt',
    'mini-max63.hvt',
    'mini.virtio',
    'mini.muen',
    'mini.genode',
    'mini.xen',
    'mini-arm.hvt',
  ])('%s is recognized by its notes', async (name) => {
    const repository = newRepository()
    const bytes = fixture(`elf/${name}`)
    const file = { mediaType: PLAIN, bytes, title: name }
    expect((await push([file], {}, repository)).status).toBe(201)
    const facts = await ask(registry, `repositories/${repository}/images/v1`)
    const target = { '.hvt': 'hvt', '.spt': 'spt' }[name.slice(-4)] ?? name.split('.')[1]
    expect(facts).toMatchObject({
      target,
      kernel: { digest: digestOf(bytes), title: name, size: bytes.length },
      architecture: name === 'mini-arm.hvt' ? 'aarch64' : 'x86_64',
    })
    expect(facts.devices.length).toBe(DEVICES[name] ?? 0)
  })

  it('has provenance by the file names of orb', async () => {
    const repository = newRepository()
    const files = FILE_ROLES.toReversed().map((role) => ({
      mediaType: PLAIN,
      bytes: fixtureOf('hello-key-1', role),
      title:
        {
          kernel: 'bin/hello-key.hvt',
          debug: 'hello-key.hvt.debug',
          'build-hashes': 'hello-key.build-hashes',
          readme: 'README.md',
        }[role as string] ?? role,
    }))
    expect((await push(files, {}, repository)).status).toBe(201)
    const facts = await ask(registry, `repositories/${repository}/images/v1`)
    expect(facts).toMatchObject({
      kernel: { digest: digestOf(fixtureOf('hello-key-1', 'kernel')) },
      inputId: 'd9f3ed4f3b71237666fc6b1285d9fed7d7a2eead9df0e78262ab32ff1e4f0474',
    })
    expect(facts.layers.map(({ role }: { role: string }) => role)).toEqual(FILE_ROLES.toReversed())
  })

  it('of containers is not analyzed', async () => {
    const repository = newRepository()
    const files = [{ mediaType: GZIP, bytes: net, title: undefined }]
    expect((await push(files, {}, repository)).status).toBe(201)
    await ask(registry, `repositories/${repository}/images/v1`, 404)
  })
})

describe('an index', () => {
  const child = async (repository: string, name: string, platform: Record<string, string>) => {
    const answer = await pushLayers(
      registry,
      repository,
      name.replace('.', '-'),
      [kernel(fixture(`elf/${name}`), name)],
      UNIKERNEL,
    )
    const digest = answer.headers.get('docker-content-digest') ?? ''
    const manifest = await registry.request(`/v2/${repository}/manifests/${digest}`)
    const size = (await manifest.arrayBuffer()).byteLength
    return { mediaType: manifest.headers.get('content-type'), digest, size, platform }
  }
  const index = async (
    children: [string, Record<string, string>][],
    repository = newRepository(),
  ) => {
    const manifests = []
    for (const [name, platform] of children) manifests.push(await child(repository, name, platform))
    const body = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests }
    return putManifest(registry, repository, 'live', body)
  }
  const solo5 = (architecture: string, variant: string) => ({ os: 'solo5', architecture, variant })

  it('serves the selected kernel, and lists the others', async () => {
    const repository = newRepository()
    const answer = await index(
      [
        ['mini-net.hvt', solo5('amd64', 'hvt')],
        ['mini-blk-net2.spt', solo5('amd64', 'spt')],
        ['mini-arm.hvt', solo5('arm64', 'hvt')],
      ],
      repository,
    )
    expect(answer.status).toBe(201)
    const path = `/api/v1/repositories/${repository}/images/live/kernel`
    for (const [query, name] of [
      ['?target=spt', 'mini-blk-net2.spt'],
      ['?target=hvt&arch=arm64', 'mini-arm.hvt'],
      ['?target=hvt&arch=x86_64&abi=2', 'mini-net.hvt'],
      ['?arch=aarch64', 'mini-arm.hvt'],
    ]) {
      const got = await registry.anonymous(path + query)
      expect(got.status).toBe(200)
      expect(got.headers.get('content-disposition')).toBe(`attachment; filename="${name}"`)
      expect(Buffer.from(await got.arrayBuffer()).equals(fixture(`elf/${name}`))).toBe(true)
    }
    const several = await registry.anonymous(path)
    expect(several.status).toBe(400)
    expect(await messageOf(several)).toMatch(
      /several kernels, select one with \?target=.*hvt, ABI 2, x86_64 \(sha256:.*spt/,
    )
    const none = await registry.anonymous(`${path}?target=xen`)
    expect(none.status).toBe(404)
    expect(await messageOf(none)).toMatch(/live has no such kernel, but hvt, ABI 2/)
  })

  it.each([
    [
      'another target',
      'mini-net.hvt',
      solo5('amd64', 'spt'),
      /variant in platform of sha256:.* says spt, but the image has hvt/,
    ],
    [
      'another processor',
      'mini-net.hvt',
      solo5('arm64', 'hvt'),
      /architecture in platform .* but the image has x86_64/,
    ],
  ])('is refused with %s than its child', async (_what, name, platform, message) => {
    await expectRefusal(await index([[name, platform]]), message)
  })

  it('is refused when a child with platform solo5 has no Solo5 kernel', async () => {
    const repository = newRepository()
    const text = { mediaType: PLAIN, bytes: Buffer.from('text'), title: 'x' }
    const answer = await pushLayers(registry, repository, 'v1', [text])
    const digest = answer.headers.get('docker-content-digest') ?? ''
    const manifest = await registry.request(`/v2/${repository}/manifests/${digest}`)
    const descriptor = {
      mediaType: manifest.headers.get('content-type'),
      digest,
      size: (await manifest.arrayBuffer()).byteLength,
      platform: solo5('amd64', 'hvt'),
    }
    const body = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests: [descriptor] }
    await expectRefusal(
      await putManifest(registry, repository, 'live', body),
      /is solo5, but this manifest has no Solo5 kernel/,
    )
  })
})

describe('a repository that requires provenance', () => {
  const strict = async () => {
    const repository = newRepository()
    const answer = await registry.request(`/api/v1/repositories/${repository}/settings`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ provenance: 'required' }),
    })
    expect(await answer.json()).toMatchObject({ provenance: 'required' })
    return repository
  }

  it('accepts an image with provenance', async () => {
    await pushBuild(registry, await strict(), 'live')
  })

  it.each([['opam-switch'], ['system-packages'], ['build-environment']] as FileRole[][])(
    'refuses one without %s, and says so',
    async (role) => {
      const form = formOf('hello-key-1' satisfies Build, { [role as string]: null })
      const answer = await postImage(registry, await strict(), '?tag=live', form)
      await expectRefusal(
        answer,
        new RegExp(`requires provenance, and the image is missing ${role}$`),
      )
    },
  )

  it('names all missing inputs, with reasons', async () => {
    const form = formOf('hello-key-1', {
      'opam-switch': Buffer.from('opam-version: "2.0'),
      'system-packages': null,
    })
    const answer = await postImage(registry, await strict(), '?tag=live', form)
    await expectRefusal(
      answer,
      /is missing opam-switch \(malformed opam file: .*\), system-packages$/,
    )
  })

  it.each([
    ['', '', ''],
    ['opam-version: "2.0"\nroots: []', 'nothing here', '\u0000\u0001'],
  ])(
    'refuses one whose layers are there and say nothing: %j, %j, %j',
    async (opam, system, environment) => {
      const form = formOf('hello-key-1', {
        'opam-switch': Buffer.from(opam),
        'system-packages': Buffer.from(system),
        'build-environment': Buffer.from(environment),
      })
      const repository = await strict()
      const message = [
        /is missing opam-switch \(it lists no installed package\), /,
        /build-environment \(it has no variable\), system-packages \(it (?:lists no package|is a list of no known package manager: .*)\)$/,
      ].map(({ source }) => source)
      const refused = new RegExp(message.join(''))
      await expectRefusal(await postImage(registry, repository, '?tag=live', form), refused)
      // Also when all of it is analyzed already.
      expect((await postImage(registry, newRepository(), '?tag=live', form)).status).toBe(201)
      await expectRefusal(await postImage(registry, repository, '?tag=live', form), refused)
    },
  )

  it('refuses manifests without a kernel, except referrers', async () => {
    const repository = await strict()
    const text = [{ mediaType: 'text/plain', bytes: Buffer.from('a signature'), title: 'x' }]
    await expectRefusal(await push(text, {}, repository), /accepts only unikernels/)
    const digest = await pushBuild(registry, repository, 'live')
    const subject = { mediaType: IMAGE_MANIFEST, digest, size: 1 }
    expect((await push(text, { subject }, repository)).status).toBe(201)
    const tag = `${digest.replace(':', '-')}.sig`
    expect((await pushLayers(registry, repository, tag, text)).status).toBe(201)
    // A referrer with a kernel in it is an image.
    const sneaked = await push([kernel()], { ...UNIKERNEL, subject }, repository)
    await expectRefusal(sneaked, /is missing opam-switch, build-environment, system-packages$/)
  })

  it('accepts only optional and required', async () => {
    const answer = await registry.request(`/api/v1/repositories/${newRepository()}/settings`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ provenance: 'perhaps' }),
    })
    await expectRefusal(answer, /provenance must be optional or required/)
  })
})
