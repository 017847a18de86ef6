import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ClientSandbox, ELF, hasClient, PASSWORD } from './client-sandbox.ts'

const INDEX = 'application/vnd.oci.image.index.v1+json'
const KERNELS = [
  ['hvt', 'mini-net.hvt'],
  ['spt', 'mini-blk-net2.spt'],
] as const

describe.skipIf(!hasClient('oras'))('an index of one unikernel for two targets', () => {
  let workshop: ClientSandbox
  let repository: string

  beforeAll(async () => {
    workshop = await ClientSandbox.open()
    repository = `${workshop.host}/targets/mini`
    const manifests: unknown[] = []
    for (const [variant, file] of KERNELS) {
      const image = `${repository}:${variant}`
      const type = ['--artifact-type', 'application/vnd.unikernel.v1']
      const layer = `${file}:application/vnd.unikernel.kernel.v1`
      await workshop.orasAsAdmin(['push', ...type, image, layer], ELF)
      const descriptor = ['manifest', 'fetch', '--plain-http', '--descriptor', image]
      const platform = { os: 'solo5', architecture: 'amd64', variant }
      manifests.push({ ...JSON.parse(await workshop.oras(descriptor)), platform })
    }
    const index = { schemaVersion: 2, mediaType: INDEX, manifests }
    await writeFile(join(workshop.folder, 'index.json'), JSON.stringify(index))
    const push = ['manifest push', '--media-type', INDEX, `${repository}:latest`, 'index.json']
    await workshop.orasAsAdmin(push)
  })

  afterAll(() => workshop?.close())

  it('comes back byte for byte', async () => {
    const fetched = await workshop.oras([
      'manifest',
      'fetch',
      '--plain-http',
      `${repository}:latest`,
    ])
    expect(fetched).toBe(await readFile(join(workshop.folder, 'index.json'), 'utf8'))
  })

  it.each(KERNELS)('gives the kernel of the platform solo5/amd64/%s', async (variant, file) => {
    const folder = join(workshop.folder, variant)
    const platform = ['--platform', `solo5/amd64/${variant}`]
    await workshop.oras(['pull', '--plain-http', ...platform, '-o', folder, `${repository}:latest`])
    expect(await readdir(folder)).toEqual([file])
    expect(await readFile(join(folder, file))).toEqual(await readFile(join(ELF, file)))
  })

  it('is copied with both images', async () => {
    const copy = `${workshop.host}/targets/copied`
    const plain = ['--from-plain-http', '--to-plain-http']
    const credentials = ['--to-username', 'admin', '--to-password', PASSWORD]
    await workshop.oras(['cp', ...plain, ...credentials, `${repository}:latest`, `${copy}:latest`])
    for (const [variant] of KERNELS) {
      const platform = ['--platform', `solo5/amd64/${variant}`]
      const fetch = ['manifest', 'fetch', '--plain-http', ...platform]
      const copied = await workshop.oras([...fetch, `${copy}:latest`])
      expect(copied).toBe(await workshop.oras([...fetch, `${repository}:latest`]))
    }
  })
})
