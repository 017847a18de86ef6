import { copyFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { IMAGE_CONFIG, IMAGE_INDEX } from '../support/media-types.ts'
import { ClientSandbox, ELF, hasClient, PASSWORD } from './client-sandbox.ts'
import { OciLayout } from './oci-layout.ts'

const CREDENTIAL = `admin:${PASSWORD}`

describe.skipIf(!hasClient('skopeo'))('skopeo', () => {
  let sandbox: ClientSandbox
  let image: string

  /** Writes an image of one kernel as container tools expect it, as an OCI layout on disk. */
  async function layoutOf(kernels: readonly string[]): Promise<string> {
    const layout = await OciLayout.create(join(sandbox.folder, 'layout'))
    const manifests: unknown[] = []
    for (const kernel of kernels) {
      await copyFile(join(ELF, kernel), join(sandbox.folder, kernel))
      await sandbox.succeed('tar', ['-cf', `${kernel}.tar`, kernel])
      const tar = await readFile(join(sandbox.folder, `${kernel}.tar`))
      const layer = await layout.keep(gzipSync(tar), 'application/vnd.oci.image.layer.v1.tar+gzip')
      const platform = { os: 'linux', architecture: 'amd64', variant: kernel.split('.')[1] }
      const rootfs = { type: 'layers', diff_ids: [digestOf(tar)] }
      const config = await layout.keep({ ...platform, rootfs, config: {} }, IMAGE_CONFIG)
      manifests.push({ ...(await layout.keepManifest({ config, layers: [layer] })), platform })
    }
    const index = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests }
    await layout.tag(await layout.keep(index, IMAGE_INDEX), 'latest')
    return layout.folder
  }

  const skopeo = (args: readonly string[]) =>
    sandbox.succeed('skopeo', ['--insecure-policy', ...args])

  const copy = (from: string, to: string) => {
    const plain = ['--src-tls-verify=false', '--dest-tls-verify=false', '--dest-creds', CREDENTIAL]
    return skopeo(['copy', '--all', ...plain, from, to])
  }

  async function indexDigest(reference: string): Promise<string> {
    const raw = await skopeo(['inspect', '--raw', '--tls-verify=false', reference])
    return digestOf(raw)
  }

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    image = `docker://${sandbox.host}/indexes/kernels:latest`
    const layout = await layoutOf(['mini-net.hvt', 'mini-blk-net2.spt'])
    await copy(`oci:${layout}:latest`, image)
  })

  afterAll(() => sandbox?.close())

  it('copies an index with all its images there and back, byte for byte', async () => {
    const digest = await indexDigest(image)
    const back = join(sandbox.folder, 'back')
    await copy(image, `oci:${back}:latest`)
    const again = `docker://${sandbox.host}/indexes/again:latest`
    await copy(`oci:${back}:latest`, again)
    expect(await indexDigest(again)).toBe(digest)
    const copied = `docker://${sandbox.host}/indexes/copied:latest`
    await copy(image, copied)
    expect(await indexDigest(copied)).toBe(digest)
  })

  it('inspects an image of the index', async () => {
    const choice = [
      '--override-os',
      'linux',
      '--override-arch',
      'amd64',
      '--override-variant',
      'spt',
    ]
    const printed = await skopeo([...choice, 'inspect', '--tls-verify=false', image])
    expect(JSON.parse(printed)).toMatchObject({ Os: 'linux', Architecture: 'amd64' })
    const config = await skopeo([...choice, 'inspect', '--config', '--tls-verify=false', image])
    expect(JSON.parse(config)).toMatchObject({ variant: 'spt' })
  })

  it('is refused with a wrong password or none', async () => {
    const target = `docker://${sandbox.host}/indexes/refused:latest`
    const plain = [
      '--insecure-policy',
      'copy',
      '--all',
      '--src-tls-verify=false',
      '--dest-tls-verify=false',
    ]
    for (const credential of [[], ['--dest-creds', 'admin:wrong']]) {
      const ran = await sandbox.run('skopeo', [...plain, ...credential, image, target])
      expect(ran.status).not.toBe(0)
      expect(ran.stderr).toMatch(
        /unauthorized|authentication required|user name or password|denied/i,
      )
    }
    // With the credential: without one, a missing repository is a 401 as well.
    const options = ['--creds', CREDENTIAL, '--tls-verify=false', target]
    const gone = await sandbox.run('skopeo', ['inspect', '--raw', ...options])
    expect(gone.status).not.toBe(0)
    expect(gone.stderr).toMatch(/(name|manifest) unknown/)
  })

  it('lists tags', async () => {
    const repository = image.replace(':latest', '')
    const listed = JSON.parse(await skopeo(['list-tags', '--tls-verify=false', repository]))
    expect(listed.Tags).toEqual(['latest'])
  })

  it('logs in, deletes, and logs out', async () => {
    const target = `docker://${sandbox.host}/indexes/doomed:latest`
    await copy(image, target)
    const login = ['login', '--tls-verify=false', '-u', 'admin', sandbox.host, '-p']
    expect((await sandbox.run('skopeo', [...login, 'wrong'])).status).not.toBe(0)
    await skopeo([...login, PASSWORD])
    await skopeo(['delete', '--tls-verify=false', target])
    await skopeo(['logout', sandbox.host])
    const gone = await sandbox.run('skopeo', ['inspect', '--raw', '--tls-verify=false', target])
    expect(gone.status).not.toBe(0)
  })
})
