import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { build, builder, builderOutput, elf, errorLine, printedJson } from './builder.ts'
import { printed } from './operator.ts'

let registry: TestRegistry
let host: string
let folder: string
let token: Record<string, string>

beforeAll(async () => {
  registry = await startRegistry()
  host = registry.url.replace('http://', '')
  folder = await mkdtemp(join(tmpdir(), 'rookery-kinds-'))
  const words = ['token', 'mint', '--repository', '**', '--action', 'pull', '--action', 'push']
  token = { ROOKERY_TOKEN: (await printed(registry, ...words)).trim() }
})

afterAll(async () => {
  await registry?.close()
  await rm(folder, { recursive: true, force: true })
})

/** Writes an orb folder whose program is that of this Node: an ELF executable without Solo5 notes. */
async function folderWith(program: string): Promise<string> {
  const made = await mkdtemp(join(folder, 'build-'))
  for (const file of ['opam-switch', 'system-packages', 'build-environment', 'README.md']) {
    await cp(join(build('hello-key-1'), file), join(made, file))
  }
  await mkdir(join(made, 'bin'))
  await cp('/bin/true', join(made, 'bin', program))
  return made
}

describe('a unikernel that is none of Solo5’s', () => {
  it('is pushed from a folder by the ending of its name, and inspected', async () => {
    const path = await folderWith('hello.fc')
    // The switch of the fixture was configured for hvt.
    await rm(join(path, 'opam-switch'))
    const ran = await builder(['push', path, `${host}/kinds/fc:v1`], token)
    expect(ran).toMatchObject({ status: 0 })
    const image = await printedJson(['inspect', `${host}/kinds/fc:v1`], token)
    expect(image).toMatchObject({
      target: 'unikraft-firecracker',
      abiVersion: null,
      devices: null,
      systemPackages: { manager: 'dpkg' },
    })
    const lines = await builderOutput(['inspect', `${host}/kinds/fc:v1`], token)
    expect(lines).toMatch(
      /^target +unikraft-firecracker, \S+; declared, .*ABI and devices are unk/m,
    )
    expect(lines).not.toMatch(/^run /m)
    const listed = await builderOutput(['image', 'list', `${host}/kinds/fc`], token)
    expect(listed).toMatch(/unikraft-firecracker +unknown/)
  })

  it('is pushed with its target', async () => {
    const words = ['push', '/bin/true', `${host}/kinds/unix:v1`, '--target', 'unix']
    expect(await builder(words, token)).toMatchObject({ status: 0 })
    const image = await printedJson(['inspect', `${host}/kinds/unix:v1`], token)
    expect(image).toMatchObject({ target: 'unix', abiVersion: null })
  })

  it('is refused when its folder was configured for another target', async () => {
    const path = await folderWith('hello.fc')
    expect(await errorLine(['push', path, `${host}/kinds/none:v1`], token)).toMatch(
      /x-mirage-configure of the opam switch says hvt, but the ending of the file name says unikraft-/,
    )
  })

  it.each([
    ['/bin/true', [], /is an ELF executable; .* declares its target: unikraft-firecracker/],
    [
      '/bin/true',
      ['--target', 'hvt'],
      /which the target hvt needs \(--target\); it is an ELF exec/,
    ],
    ['/bin/true', ['--target', 'hvtt'], /--target must be one of hvt, spt/],
    [elf('mini-net.hvt'), ['--target', 'unix'], /says unix, but the image has hvt/],
  ])('is refused without its right target: %s %j', async (path, options, message) => {
    expect(await errorLine(['push', path, `${host}/kinds/none:v1`, ...options], token)).toMatch(
      message,
    )
  })

  it('is not a compressed kernel, and the message says so', async () => {
    const path = join(folder, 'www.hvt')
    await writeFile(path, gzipSync('a kernel'))
    for (const words of [
      ['inspect', path],
      ['push', path, `${host}/kinds/none:v1`],
    ]) {
      expect(await errorLine(words, token)).toMatch(
        /www\.hvt is not a kernel: .*compressed with gzip$/,
      )
    }
  })
})
