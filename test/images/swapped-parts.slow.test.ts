import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { build, elf } from '../cli/builder.ts'
import { newRepository, pushBlob, putManifest } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const BUILD = build('hello-key-1')
const FILES: Readonly<Record<string, string | Buffer>> = {
  kernel: join(BUILD, 'bin/hello-key.hvt'),
  'opam-switch': join(BUILD, 'opam-switch'),
  'system-packages': join(BUILD, 'system-packages'),
  'build-environment': join(BUILD, 'build-environment'),
  'build-hashes': join(BUILD, 'hello-key.build-hashes'),
  debug: join(BUILD, 'hello-key.hvt.debug'),
  script: Buffer.from('#!/bin/sh\nmake depend\nmake\n'),
  config: Buffer.from('{"memory":64}'),
}
const LOOKS: Readonly<Record<string, RegExp>> = {
  kernel: /looks like a kernel/,
  debug: /looks like a kernel/,
  'opam-switch': /looks like an opam switch/,
  'system-packages': /looks like a list of system packages/,
  'build-environment': /looks like a build environment/,
  'build-hashes': /looks like build hashes/,
  script: /looks like a script/,
  config: /looks like JSON/,
}
const PARTS = ['opam-switch', 'system-packages', 'build-environment', 'build-hashes', 'debug']
const ROLES = [...PARTS, 'console', 'script', 'config']

let registry: TestRegistry
const bytes = new Map<string, Buffer>()

beforeAll(async () => {
  registry = await startRegistry()
  for (const [name, file] of Object.entries(FILES)) {
    bytes.set(name, typeof file === 'string' ? await readFile(file) : file)
  }
})
afterAll(() => registry.close())

const bytesOf = (name: string) => new Uint8Array(bytes.get(name) ?? Buffer.alloc(0))
const PAIRS = ROLES.flatMap((role) =>
  Object.keys(FILES)
    .filter((file) => file !== role && !(role === 'debug' && file === 'kernel'))
    .map((file) => [role, file] as const),
)

async function postForm(files: Readonly<Record<string, string>>, url?: string) {
  const form = new FormData()
  for (const [role, file] of Object.entries(files)) {
    form.append(role, new Blob([bytesOf(file)]), file)
  }
  const path = url ?? `/api/v1/repositories/${newRepository()}/images?tag=v1`
  const method = url === undefined ? 'POST' : 'PUT'
  const answer = await registry.request(path, { method, body: form })
  return { status: answer.status, text: await answer.text() }
}

describe('a part with the file of another part', () => {
  it.each(PAIRS)('is noticed: %s=@%s', async (role, file) => {
    const { status, text } = await postForm({ kernel: 'kernel', [role]: file })
    expect(status).toBe(role === 'config' ? 400 : 201)
    if (role === 'config') expect(text).toMatch(/image invalid: config is not a unikernel config/)
    else expect(JSON.parse(text).warnings.join()).toMatch(LOOKS[file] ?? /never/)
  })

  it.each(Object.keys(FILES).filter((name) => name !== 'kernel' && name !== 'debug'))(
    'is refused when it is the kernel: kernel=@%s',
    async (file) => {
      const { status, text } = await postForm({ kernel: file })
      expect(status).toBe(400)
      const { code, message } = JSON.parse(text).errors[0]
      expect(code).toBe('MANIFEST_INVALID')
      expect(message).toMatch(new RegExp(`^the part kernel: ${file} is not a kernel: it is not`))
      expect(message).toMatch(LOOKS[file] ?? /never/)
      expect(message).toContain(`send it with -F ${file}=@FILE`)
    },
  )

  it('is noticed when kernel and debug twin are swapped', async () => {
    const { text } = await postForm({ kernel: 'debug', debug: 'kernel' })
    expect(text).toMatch(/kernel and debug twin may be swapped|says that the md5/)
  })

  it('is no warning when every part has its own', async () => {
    const own = ['kernel', ...PARTS, 'script', 'config'].map((name) => [name, name])
    const { status, text } = await postForm(Object.fromEntries(own))
    expect(status).toBe(201)
    expect(JSON.parse(text)).toMatchObject({
      warnings: [],
      inputId: 'd9f3ed4f3b71237666fc6b1285d9fed7d7a2eead9df0e78262ab32ff1e4f0474',
    })
  })

  it('is no warning for the lists of other systems', async () => {
    for (const name of ['hello-key-2', 'hello-key-3-freebsd-same-output']) {
      const form = new FormData()
      form.append('kernel', new Blob([new Uint8Array(await readFile(elf('mini-net.hvt')))]), 'k')
      for (const part of ['opam-switch', 'system-packages', 'build-environment']) {
        const file = new Uint8Array(await readFile(join(build(name), part)))
        form.append(part, new Blob([file]), part)
      }
      const path = `/api/v1/repositories/${newRepository()}/images`
      const answer = await registry.request(path, { method: 'POST', body: form })
      expect(await answer.json()).toMatchObject({ warnings: [] })
    }
  })

  it('is noticed through an upload URL', async () => {
    const path = `/api/v1/repositories/${newRepository()}/tags/v1/upload-urls`
    const created = await registry.request(path, { method: 'POST' })
    const { url } = (await created.json()) as { url: string }
    const files = { kernel: 'kernel', 'opam-switch': 'system-packages' }
    const { status, text } = await postForm(files, url)
    expect(status).toBe(201)
    expect(JSON.parse(text).warnings[0]).toMatch(/^opam-switch: .*looks like a list of system/)
  })

  it('is noticed in what any client pushed, where the image is read', async () => {
    const repository = newRepository()
    const layer = async (role: string, file: string) => ({
      ...(await pushBlob(registry, repository, bytes.get(file))),
      mediaType: `application/vnd.unikernel.${role}.v1`,
    })
    const { bytes: _empty, ...config } = await pushBlob(registry, repository, Buffer.from('{}'))
    const layers = [
      await layer('kernel', 'kernel'),
      await layer('opam-switch', 'system-packages'),
      await layer('system-packages', 'opam-switch'),
    ].map(({ bytes: _bytes, ...descriptor }) => descriptor)
    const pushed = await putManifest(registry, repository, 'v1', {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      artifactType: 'application/vnd.unikernel.v1',
      config: { ...config, mediaType: 'application/vnd.oci.empty.v1+json' },
      layers,
    })
    expect(pushed.status).toBe(201)
    const read = await registry.request(`/api/v1/repositories/${repository}/images/v1`)
    const image = (await read.json()) as { layers: { role: string; problem: string | null }[] }
    expect(image.layers.map(({ problem }) => problem)).toEqual([
      null,
      expect.stringMatching(/looks like a list of system packages/),
      expect.stringMatching(/looks like an opam switch/),
    ])
  })
})
