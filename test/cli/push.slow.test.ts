import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { build, builder, builderOutput, elf, errorLine, printedJson } from './builder.ts'
import { printed } from './operator.ts'

const BUILDS = [
  'hello-key-1',
  'hello-key-2',
  'hello-key-3-freebsd-same-output',
  'hello-key-4-same-input-different-output',
]
const FIRST_DIGEST = 'sha256:415da5f4277d6bfd0fb9403683bd175f65bb7036070560f04636771001361ff3'

let registry: TestRegistry
let host: string
let folder: string
let token: Record<string, string>

beforeAll(async () => {
  registry = await startRegistry()
  host = registry.url.replace('http://', '')
  folder = await mkdtemp(join(tmpdir(), 'rookery-push-'))
  const words = ['token', 'mint', '--repository', '**', '--action', 'pull', '--action', 'push']
  token = { ROOKERY_TOKEN: (await printed(registry, ...words)).trim() }
})

afterAll(async () => {
  await registry?.close()
  await rm(folder, { recursive: true, force: true })
})

async function copied(name: string): Promise<string> {
  const copy = await mkdtemp(join(folder, 'build-'))
  await cp(build(name), copy, { recursive: true })
  return copy
}

async function known(repository: string, reference: string) {
  const answer = await registry.anonymous(`/api/v1/repositories/${repository}/images/${reference}`)
  expect(answer.status).toBe(200)
  return (await answer.json()) as Record<string, unknown>
}

describe('rookery push', () => {
  it('finds the lock file of a mirage project', async () => {
    const lock = new URL('../fixtures/locks/hello-key-hvt.opam.locked', import.meta.url)
    const copy = await copied('hello-key-1')
    await mkdir(join(copy, 'mirage'))
    await cp(lock, join(copy, 'mirage', 'hello-key-hvt.opam.locked'))
    // The lock file of the kernel counts when there are several.
    await writeFile(join(copy, 'mirage', 'hello-key-spt.opam.locked'), 'depends: []')
    const answer = await printedJson(['push', copy, `${host}/locked/key:live`], token)
    const found = answer.layers.find(({ role }: { role: string }) => role === 'opam-lock')
    expect(found).toMatchObject({
      title: 'hello-key-hvt.opam.locked',
      digest: digestOf(await readFile(lock)),
    })
  })

  it('accepts each build as orb wrote it', async () => {
    for (const name of BUILDS) {
      const expected = JSON.parse(await readFile(`${build(name)}.json`, 'utf8'))
      const answer = await printedJson(['push', build(name), `${host}/builds/${name}:live`], token)
      expect(answer).toMatchObject({
        inputId: expected.input_id,
        references: [`${host}/builds/${name}:live`],
      })
      expect(answer.layers.map(({ role }: { role: string }) => role)).toEqual([
        'kernel',
        'opam-switch',
        'system-packages',
        'build-environment',
        'build-hashes',
        'debug',
        'readme',
      ])
      expect(await known(`builds/${name}`, 'live')).toMatchObject({
        digest: answer.digest,
        inputId: expected.input_id,
        kernel: { digest: `sha256:${expected.main_binary_sha256}`, title: 'hello-key.hvt' },
      })
    }
  })

  it('prints digest, references and input id, and sets every tag', async () => {
    const place = `${host}/lines:v1`
    const lines = await builderOutput(['push', build('hello-key-1'), place, 'latest', 'v1'], token)
    const [built = ''] = /^build {6}[0-9a-f-]{36}$/m.exec(lines) ?? []
    expect(lines).toBe(
      `digest     ${FIRST_DIGEST}\n` +
        `reference  ${place}\n` +
        `reference  ${host}/lines:latest\n` +
        'input id   d9f3ed4f3b71237666fc6b1285d9fed7d7a2eead9df0e78262ab32ff1e4f0474\n' +
        `${built}\n`,
    )
    for (const tag of ['v1', 'latest']) {
      const answer = await registry.anonymous(`/v2/lines/manifests/${tag}`, { method: 'HEAD' })
      expect(answer.headers.get('docker-content-digest')).toBe(FIRST_DIGEST)
    }
  })

  it('makes the same image as a form upload', async () => {
    const form = new FormData()
    const files = {
      kernel: 'bin/hello-key.hvt',
      'opam-switch': 'opam-switch',
      'system-packages': 'system-packages',
      'build-environment': 'build-environment',
      'build-hashes': 'hello-key.build-hashes',
      debug: 'hello-key.hvt.debug',
      readme: 'README.md',
    }
    for (const [part, file] of Object.entries(files)) {
      const bytes = await readFile(join(build('hello-key-1'), file))
      form.set(part, new File([new Uint8Array(bytes)], file.split('/').at(-1) ?? ''))
    }
    const path = '/api/v1/repositories/form/images?tag=live'
    const answer = await registry.request(path, { method: 'POST', body: form })
    expect(answer.status).toBe(201)
    expect(await answer.json()).toMatchObject({ digest: FIRST_DIGEST })
  })

  it('accepts one kernel, and warns about missing inputs', async () => {
    for (const name of ['mini-none.hvt', 'mini-blk-net2.spt', 'mini.virtio', 'mini-arm.hvt']) {
      const ran = await builder(['push', elf(name), `${host}/mini:${name}`, '--json'], token)
      expect(ran.status).toBe(0)
      expect(ran.stderr).toBe(
        'rookery: warning: the image has no input id; missing inputs: opam-switch, build-environment, system-packages\n',
      )
      expect(JSON.parse(ran.stdout).inputId).toBeNull()
      expect(await known('mini', name)).toMatchObject({ kernel: { title: name } })
    }
    const words = ['push', elf('mini-none.hvt'), `${host}/mini:strict`, '--require-provenance']
    expect(await errorLine(words, token)).toBe(
      'rookery: nothing was pushed; missing inputs: opam-switch, build-environment, system-packages',
    )
    expect((await registry.anonymous('/v2/mini/manifests/strict')).status).toBe(404)
  })

  it('sends nothing with --dry-run, and needs neither login nor registry', async () => {
    const words = ['push', build('hello-key-1'), '127.0.0.1:1/x:v1', '--dry-run']
    const answer = await printedJson(words)
    expect(answer.digest).toBe(FIRST_DIGEST)
    expect(answer.manifest.annotations['org.opencontainers.image.created']).toBe(
      '2020-05-10T19:14:47Z',
    )
    const lines = (await builderOutput(words)).split('\n')
    const manifest = lines.find((line) => line.startsWith('manifest ')) ?? ''
    const bytes = manifest.replace(/^manifest +/, '')
    expect(digestOf(bytes)).toBe(FIRST_DIGEST)
    expect(lines.filter((line) => line.startsWith('layer '))).toHaveLength(7)
  })

  it('adds a config, a console, a script and a time', async () => {
    const [config, console, script] = ['config.json', 'console', 'build.sh'].map((one) =>
      join(folder, one),
    ) as [string, string, string]
    await writeFile(config, '{"memory":64,"argv":["--ipv4=10.0.0.2/24"]}')
    await writeFile(console, 'it was built\n')
    await writeFile(script, '#!/bin/sh\n')
    const more = ['--config', config, '--console', console, '--script', script]
    const when = ['--created', '2026-01-02T03:04:05Z']
    const words = ['push', build('hello-key-2'), `${host}/more:v1`, ...more, ...when]
    const { layers } = await printedJson(words, token)
    expect(layers.slice(-3)).toMatchObject([
      { role: 'console', title: 'console' },
      { role: 'script', title: 'build.sh' },
      { role: 'readme', title: 'README.md' },
    ])
    expect(await known('more', 'v1')).toMatchObject({ config: { memory: 64 } })
    const manifest = await (await registry.anonymous('/v2/more/manifests/v1')).json()
    expect(manifest).toMatchObject({
      annotations: { 'org.opencontainers.image.created': '2026-01-02T03:04:05Z' },
    })
  })

  it('finds the kernel of several by its name', async () => {
    const copy = await copied('hello-key-1')
    await cp(elf('mini-net.hvt'), join(copy, 'bin', 'other.hvt'))
    await writeFile(join(copy, 'bin', 'script.hvt'), '#!/bin/sh\n')
    const words = ['push', copy, `${host}/several:v1`]
    expect(await errorLine(words, token)).toMatch(
      /there are 2 kernels in .*; choose one with --kernel: bin\/hello-key\.hvt, bin\/other\.hvt$/,
    )
    for (const kernel of ['hello-key.hvt', 'bin/hello-key.hvt']) {
      const { digest } = await printedJson([...words, '--kernel', kernel], token)
      expect(digest, kernel).toBe(FIRST_DIGEST)
    }
    const other = await printedJson([...words, '--kernel', 'other.hvt'], token)
    expect(other.layers[0]).toMatchObject({ role: 'kernel', title: 'other.hvt' })
    expect(await errorLine([...words, '--kernel', 'script.hvt'], token)).toMatch(
      /script\.hvt is not a kernel: it is not an ELF executable with Solo5 notes; it looks like a script$/,
    )
    expect(await errorLine([...words, '--kernel', 'absent'], token)).toMatch(/there is no kernel/)
  })

  it('finds what mirage build made in dist, for each target', async () => {
    for (const name of ['hvt', 'spt', 'virtio', 'muen', 'genode', 'xen']) {
      const project = await mkdtemp(join(folder, 'mirage-'))
      await mkdir(join(project, 'dist'))
      await writeFile(join(project, 'unikernel.ml'), 'module Main = struct end\n')
      const file =
        name === 'hvt' ? 'mini-net.hvt' : name === 'spt' ? 'mini-blk-net2.spt' : `mini.${name}`
      await cp(elf(file), join(project, 'dist', `hello.${name}`))
      const words = ['push', project, `${host}/mirage:${name}`]
      const { layers } = JSON.parse((await builder([...words, '--dry-run', '--json'])).stdout)
      expect(layers).toMatchObject([{ role: 'kernel', title: `hello.${name}` }])
      await cp(elf('mini-arm.hvt'), join(project, 'dist', 'second.hvt'))
      expect(await errorLine(words, token)).toMatch(
        /there are 2 kernels in .*; choose one with --kernel: dist\/hello\.\w+, dist\/second\.hvt$/,
      )
      for (const kernel of ['second.hvt', 'dist/second.hvt']) {
        const chosen = await builder([...words, '--kernel', kernel, '--dry-run', '--json'])
        expect(JSON.parse(chosen.stdout).layers).toMatchObject([{ title: 'second.hvt' }])
      }
    }
  })

  it('says which part a swapped file looks like', async () => {
    const copy = await copied('hello-key-1')
    await cp(join(build('hello-key-1'), 'system-packages'), join(copy, 'opam-switch'))
    await cp(join(build('hello-key-1'), 'opam-switch'), join(copy, 'system-packages'))
    const words = ['push', copy, `${host}/swapped:v1`, '--console', join(copy, 'build-environment')]
    const ran = await builder(words, token)
    expect(ran.status).toBe(0)
    expect(ran.stderr).toMatch(/warning: console: it looks like a build environment\n/)
    expect(ran.stderr).toMatch(/opam-switch \(.*it looks like a list of system packages\)/)
    expect(ran.stderr).toMatch(/system-packages \(.*it looks like an opam switch\)/)
    const shown = await builderOutput(['inspect', `${host}/swapped:v1`])
    expect(shown).toMatch(/not parsed: opam-switch: .*it looks like a list of system packages/)
    expect(await errorLine([...words, '--require-provenance'], token)).toMatch(/it looks like/)
  })

  it('prefers what orb made', async () => {
    const copy = await copied('hello-key-1')
    await mkdir(join(copy, 'dist'))
    await cp(elf('mini-net.hvt'), join(copy, 'dist', 'other.hvt'))
    const { digest } = await printedJson(['push', copy, `${host}/both:v1`], token)
    expect(digest).toBe(FIRST_DIGEST)
  })

  it('finds a kernel outside of bin, and through a link', async () => {
    const plain = await copied('hello-key-1')
    await cp(join(plain, 'bin/hello-key.hvt'), join(plain, 'hello-key.hvt'))
    await rm(join(plain, 'bin'), { recursive: true })
    const linked = await copied('hello-key-1')
    await cp(join(linked, 'bin/hello-key.hvt'), join(folder, 'target'))
    await rm(join(linked, 'bin/hello-key.hvt'))
    await symlink(join(folder, 'target'), join(linked, 'bin/hello-key.hvt'))
    for (const path of [plain, linked]) {
      expect((await printedJson(['push', path, `${host}/plain:v1`], token)).digest).toBe(
        FIRST_DIGEST,
      )
    }
  })
})
