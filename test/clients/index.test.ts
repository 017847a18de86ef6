import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { IMAGE_INDEX } from '../support/media-types.ts'
import { ClientSandbox, ELF, hasClient, PASSWORD } from './client-sandbox.ts'

const KERNELS = [
  ['hvt', 'mini-net.hvt'],
  ['spt', 'mini-blk-net2.spt'],
] as const

describe.skipIf(!hasClient('oras'))('an index of one unikernel for two targets', () => {
  let sandbox: ClientSandbox
  let repository: string

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    repository = `${sandbox.host}/targets/mini`
    const manifests: unknown[] = []
    for (const [variant, file] of KERNELS) {
      const image = `${repository}:${variant}`
      const type = ['--artifact-type', 'application/vnd.unikernel.v1']
      const layer = `${file}:application/vnd.unikernel.kernel.v1`
      await sandbox.orasAsAdmin(['push', ...type, image, layer], ELF)
      const descriptor = ['manifest', 'fetch', '--plain-http', '--descriptor', image]
      const platform = { os: 'solo5', architecture: 'amd64', variant }
      manifests.push({ ...JSON.parse(await sandbox.oras(descriptor)), platform })
    }
    const index = { schemaVersion: 2, mediaType: IMAGE_INDEX, manifests }
    await writeFile(join(sandbox.folder, 'index.json'), JSON.stringify(index))
    const push = [
      'manifest push',
      '--media-type',
      IMAGE_INDEX,
      `${repository}:latest`,
      'index.json',
    ]
    await sandbox.orasAsAdmin(push)
  })

  afterAll(() => sandbox?.close())

  it('comes back byte for byte', async () => {
    const fetched = await sandbox.oras([
      'manifest',
      'fetch',
      '--plain-http',
      `${repository}:latest`,
    ])
    expect(fetched).toBe(await readFile(join(sandbox.folder, 'index.json'), 'utf8'))
  })

  it.each(KERNELS)('gives the kernel of the platform solo5/amd64/%s', async (variant, file) => {
    const folder = join(sandbox.folder, variant)
    const platform = ['--platform', `solo5/amd64/${variant}`]
    await sandbox.oras(['pull', '--plain-http', ...platform, '-o', folder, `${repository}:latest`])
    expect(await readdir(folder)).toEqual([file])
    expect(await readFile(join(folder, file))).toEqual(await readFile(join(ELF, file)))
  })

  it('is copied with both images', async () => {
    const copy = `${sandbox.host}/targets/copied`
    const plain = ['--from-plain-http', '--to-plain-http']
    const credentials = ['--to-username', 'admin', '--to-password', PASSWORD]
    await sandbox.oras(['cp', ...plain, ...credentials, `${repository}:latest`, `${copy}:latest`])
    for (const [variant] of KERNELS) {
      const platform = ['--platform', `solo5/amd64/${variant}`]
      const fetch = ['manifest', 'fetch', '--plain-http', ...platform]
      const copied = await sandbox.oras([...fetch, `${copy}:latest`])
      expect(copied).toBe(await sandbox.oras([...fetch, `${repository}:latest`]))
    }
  })
})
