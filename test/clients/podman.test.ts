import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ClientSandbox, ELF, hasClient, PASSWORD } from './client-sandbox.ts'
import { prepareContainerTools } from './container-tools.ts'
import { expectKernelOf } from './unwrapped.ts'

const PLAIN = '--tls-verify=false'
const TEXT = 'foo: bar\n'

let sandbox: ClientSandbox

beforeAll(async () => {
  sandbox = await ClientSandbox.open()
  await prepareContainerTools(sandbox)
  const context = join(sandbox.folder, 'context')
  await mkdir(context)
  await copyFile(join(ELF, 'mini-net.hvt'), join(context, 'hello.hvt'))
  await writeFile(join(context, 'Containerfile'), 'FROM scratch\nCOPY hello.hvt /hello.hvt\n')
})

afterAll(() => sandbox?.close())

/** Returns the only file of an image that podman or buildah saved, as bytes. */
async function kernelOf(tool: 'podman' | 'buildah', image: string): Promise<Buffer> {
  const layout = join(sandbox.folder, `saved-${tool}`)
  await sandbox.succeed(tool, ['push', '--quiet', image, `oci:${layout}:latest`])
  const blob = (digest: string) => readFile(join(layout, 'blobs/sha256', digest.slice(7)))
  const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8'))
  const manifest = JSON.parse((await blob(index.manifests[0].digest)).toString())
  await writeFile(`${layout}.tar.gz`, await blob(manifest.layers[0].digest))
  await sandbox.succeed('tar', ['-xzf', `${layout}.tar.gz`, '-C', layout, 'hello.hvt'])
  return readFile(join(layout, 'hello.hvt'))
}

describe.each(['podman', 'buildah'] as const)('%s', (tool) => {
  const isHere = hasClient(tool)
  const run = (...args: string[]) => sandbox.run(tool, args)
  const succeed = (...args: string[]) => sandbox.succeed(tool, args)
  const image = (tag: string) => `${sandbox.host}/${tool}/hello:${tag}`

  it.runIf(isHere)('logs in with the right password only', async () => {
    const login = ['login', PLAIN, '-u', 'admin']
    const wrong = await run(...login, '-p', 'wrong', sandbox.host)
    expect(wrong.status).toBe(125)
    expect(wrong.stderr).toContain('invalid username/password')
    expect(await succeed(...login, '-p', PASSWORD, sandbox.host)).toContain('Login Succeeded!')
    expect(await succeed('login', '--get-login', sandbox.host)).toBe('admin\n')
  })

  it.runIf(isHere)(
    'builds an image of a kernel, pushes it, and pulls it by tag and digest',
    async () => {
      await succeed('build', '--quiet', '-t', image('v1'), 'context')
      await succeed('push', PLAIN, '--digestfile', 'digest', image('v1'))
      const digest = (await readFile(join(sandbox.folder, 'digest'), 'utf8')).trim()
      const url = `http://${sandbox.host}/v2/${tool}/hello/manifests/v1`
      expect(await sandbox.curl(['-I', url])).toContain(digest)
      await expectKernelOf(sandbox, image('v1'), await readFile(join(ELF, 'mini-net.hvt')))
      for (const reference of [image('v1'), image('v1').replace(':v1', `@${digest}`)]) {
        await succeed('rmi', '--force', '--all')
        await succeed('pull', '--quiet', PLAIN, reference)
        const kernel = await kernelOf(tool, reference)
        expect(kernel.equals(await readFile(join(ELF, 'mini-net.hvt')))).toBe(true)
      }
      const none = await run('pull', '--quiet', PLAIN, image('none'))
      expect(none.status).toBe(125)
      expect(none.stderr).toContain('manifest unknown')
    },
  )

  it.runIf(isHere)('pushes both formats of manifests', async () => {
    await succeed('build', '--quiet', '-t', image('v2'), 'context')
    for (const [format, type] of [
      ['oci', 'application/vnd.oci.image.manifest.v1+json'],
      ['v2s2', 'application/vnd.docker.distribution.manifest.v2+json'],
    ]) {
      const target = `docker://${image(format ?? '')}`
      await succeed('push', '--quiet', PLAIN, '--format', format ?? '', image('v2'), target)
      const url = `http://${sandbox.host}/v2/${tool}/hello/manifests/${format}`
      expect(JSON.parse(await sandbox.curl([url])).mediaType).toBe(type)
      const kernel = await readFile(join(ELF, 'mini-net.hvt'))
      await expectKernelOf(sandbox, image(format ?? ''), kernel)
    }
  })

  it.runIf(isHere)('pushes an index of two platforms, and another machine reads it', async () => {
    const list = `${tool}-list`
    for (const architecture of ['amd64', 'arm64']) {
      const name = image(architecture)
      // Without the label the second build takes the image of the first.
      const platform = ['--arch', architecture, '--label', `for=${architecture}`]
      await succeed('build', '--quiet', ...platform, '-t', name, 'context')
      await succeed('push', '--quiet', PLAIN, name)
    }
    await succeed('manifest', 'create', list)
    for (const architecture of ['amd64', 'arm64']) {
      const reference = `docker://${image(architecture)}`
      await succeed('manifest', 'add', PLAIN, '--arch', architecture, list, reference)
    }
    await succeed('manifest', 'push', '--quiet', PLAIN, '--all', list, `docker://${image('multi')}`)
    const url = `http://${sandbox.host}/v2/${tool}/hello/manifests/multi`
    const { manifests } = JSON.parse(await sandbox.curl([url]))
    const platforms = manifests.map(
      ({ platform }: { platform: { architecture: string } }) => platform.architecture,
    )
    expect(platforms).toEqual(['amd64', 'arm64'])
    await succeed('pull', '--quiet', PLAIN, '--arch', 'arm64', image('multi'))
    const inspected = await succeed('inspect', '--type', 'image', image('multi'))
    expect(inspected).toContain('arm64')
    // An index without its images cannot be pulled, so it is refused; the message names the first one.
    const alone = `docker://${sandbox.host}/${tool}/alone:v1`
    const sparse = await run('manifest', 'push', PLAIN, '--all=false', list, alone)
    expect(sparse.status).toBe(125)
    expect(sparse.stderr).toMatch(/the repository has no manifest sha256:\w{64}: push it before/)
  })

  it.runIf(isHere)(
    'after its logout a push is refused, and a public image is still pulled',
    async () => {
      await succeed('logout', sandbox.host)
      const refused = await run('push', '--quiet', PLAIN, image('v2'))
      expect(refused.status).toBe(125)
      expect(refused.stderr).toMatch(/denied|unauthorized|authentication required/)
      await succeed('pull', '--quiet', PLAIN, image('v1'))
    },
  )
})

describe.skipIf(!hasClient('podman'))('podman', () => {
  beforeAll(() =>
    sandbox.succeed('podman', ['login', PLAIN, '-u', 'admin', '-p', PASSWORD, sandbox.host]),
  )

  it('pushes a text file as an artifact, and pulls it', async () => {
    await writeFile(join(sandbox.folder, 'notes.yaml'), TEXT)
    const artifact = `${sandbox.host}/podman/notes:v1`
    await sandbox.succeed('podman', ['artifact', 'add', artifact, 'notes.yaml'])
    await sandbox.succeed('podman', ['artifact', 'push', '--quiet', PLAIN, artifact])
    await sandbox.succeed('podman', ['artifact', 'rm', artifact])
    await sandbox.succeed('podman', ['artifact', 'pull', '--quiet', PLAIN, artifact])
    const inspected = JSON.parse(await sandbox.succeed('podman', ['artifact', 'inspect', artifact]))
    const [layer] = inspected.Manifest.layers
    expect(layer.mediaType).toBe('text/plain; charset=utf-8')
    const url = `http://${sandbox.host}/v2/podman/notes/blobs/${layer.digest}`
    expect(await sandbox.curl([url])).toBe(TEXT)
  })

  it('searches repositories and tags', async () => {
    const search = ['search', PLAIN]
    const found = await sandbox.succeed('podman', [...search, `${sandbox.host}/podman`])
    expect(found).toContain('podman/notes')
    const tags = ['--list-tags', `${sandbox.host}/podman/notes`]
    expect(await sandbox.succeed('podman', [...search, ...tags])).toMatch(/podman\/notes\s+v1/)
  })
})
