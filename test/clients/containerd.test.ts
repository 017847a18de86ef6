import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ClientSandbox, ELF, hasClient, PASSWORD } from './client-sandbox.ts'
import { Containerd } from './containerd.ts'

const isHere = hasClient('containerd') && hasClient('crane')

describe.skipIf(!isHere)('ctr of containerd', () => {
  let sandbox: ClientSandbox
  let containerd: Containerd
  let image: string
  let digest: string

  const asAdmin = ['--plain-http', '-u', `admin:${PASSWORD}`]
  const pull = (...args: string[]) =>
    containerd.run('images', 'pull', '--plain-http', '--snapshotter', 'native', ...args)
  const push = (...args: string[]) => containerd.run('images', 'push', '--plain-http', ...args)
  const digestOf = async (reference: string) =>
    (await sandbox.succeed('crane', ['digest', reference])).trim()

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    containerd = await Containerd.start(sandbox)
    image = `${sandbox.host}/ctr/hello:v1`
    await sandbox.succeed('crane', ['auth', 'login', sandbox.host, '-u', 'admin', '-p', PASSWORD])
    await sandbox.succeed('tar', ['-cf', 'kernel.tar', '-C', ELF, 'mini-net.hvt'])
    const bare = image.replace(':v1', ':bare')
    await sandbox.succeed('crane', ['append', '--oci-empty-base', '-f', 'kernel.tar', '-t', bare])
    for (const architecture of ['amd64', 'arm64']) {
      const platform = ['--set-platform', `linux/${architecture}`]
      const tag = image.replace(':v1', `:${architecture}`)
      await sandbox.succeed('crane', ['mutate', bare, ...platform, '-t', tag])
    }
    const platforms = ['amd64', 'arm64'].flatMap((one) => ['-m', image.replace(':v1', `:${one}`)])
    await sandbox.succeed('crane', ['index', 'append', ...platforms, '-t', image])
    digest = await digestOf(image)
  })

  afterAll(async () => {
    await containerd?.stop()
    await sandbox?.close()
  })

  it('pulls a public image without a login, by tag and by digest', async () => {
    for (const reference of [image, image.replace(':v1', `@${digest}`)]) {
      const ran = await pull('--platform', 'linux/amd64', reference)
      expect(ran.status, ran.stderr).toBe(0)
      expect(await containerd.succeed('images', 'ls', `name==${reference}`)).toContain(digest)
    }
  })

  it('fetches all platforms of an index, and their bytes are those of the kernel', async () => {
    await containerd.succeed('content', 'fetch', '--plain-http', '--all-platforms', image)
    const manifest = JSON.parse(
      await sandbox.succeed('crane', ['manifest', image.replace(':v1', ':arm64')]),
    )
    const layer = join(sandbox.folder, 'layer')
    const command = `ctr --address "$1" content get ${manifest.layers[0].digest} | tar -xzO`
    await sandbox.succeed('bash', ['-c', `${command} > "$2"`, 'ctr', containerd.socket, layer])
    const kernel = await readFile(join(ELF, 'mini-net.hvt'))
    expect((await readFile(layer)).equals(kernel)).toBe(true)
  })

  it('pushes an index with all its images under the same digest', async () => {
    const target = image.replace('ctr/hello', 'ctr/pushed')
    await containerd.succeed('images', 'push', ...asAdmin, target, image)
    expect(await digestOf(target)).toBe(digest)
    expect(await digestOf(target.replace(':v1', `@${digest}`))).toBe(digest)
    const validated = await sandbox.succeed('crane', ['validate', '--remote', target])
    expect(validated).toContain('PASS')
  })

  it('pushes and pulls in a private repository with a login only', async () => {
    await sandbox.api('PUT', 'repositories/ctr/private/settings', { visibility: 'private' })
    const target = image.replace('ctr/hello', 'ctr/private')
    for (const login of [[], ['-u', 'admin:wrong']]) {
      const refused = await push(...login, target, image)
      expect(refused.status).toBe(1)
      expect(refused.stderr).toMatch(/authoriz/)
    }
    await containerd.succeed('images', 'push', ...asAdmin, target, image)
    await containerd.succeed('images', 'rm', image)
    const refused = await pull(target)
    expect(refused.status).toBe(1)
    expect(refused.stderr).toMatch(/authoriz/)
    const ran = await pull('-u', `admin:${PASSWORD}`, '--platform', 'linux/amd64', target)
    expect(ran.status, ran.stderr).toBe(0)
  })
})
