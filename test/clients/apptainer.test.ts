import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { ClientSandbox, ELF, hasClient, PASSWORD } from './client-sandbox.ts'

const isHere = hasClient('apptainer') && hasClient('crane')

describe.skipIf(!isHere)('apptainer', () => {
  let sandbox: ClientSandbox
  const apptainer = (...args: string[]) => sandbox.succeed('apptainer', args)
  const bytes = (file: string) => readFile(join(sandbox.folder, file))

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    sandbox.environment.APPTAINER_CACHEDIR = join(sandbox.folder, 'cache')
    const login = ['-u', 'admin', '-p', PASSWORD]
    await sandbox.succeed('crane', ['auth', 'login', sandbox.host, ...login])
    await sandbox.succeed('tar', ['-cf', 'kernel.tar', '-C', ELF, 'mini-net.hvt'])
    const image = `${sandbox.host}/apptainer/image:v1`
    await sandbox.succeed('crane', ['append', '--oci-empty-base', '-f', 'kernel.tar', '-t', image])
    const platform = ['--set-platform', `linux/${process.arch === 'arm64' ? 'arm64' : 'amd64'}`]
    await sandbox.succeed('crane', ['mutate', image, ...platform, '-t', image])
    await apptainer('pull', '--no-https', 'image.sif', `docker://${image}`)
  })

  afterAll(() => sandbox?.close())

  it('makes a SIF of an image in the registry, pushes it with oras, and pulls the same bytes', async () => {
    const stored = `oras://${sandbox.host}/apptainer/sif:v1`
    await apptainer('registry', 'login', '-u', 'admin', '-p', PASSWORD, `oras://${sandbox.host}`)
    await apptainer('push', '--no-https', '--allow-unsigned', 'image.sif', stored)
    await apptainer('registry', 'logout', `oras://${sandbox.host}`)
    await apptainer('pull', '--no-https', 'back.sif', stored)
    expect((await bytes('back.sif')).equals(await bytes('image.sif'))).toBe(true)
    const url = `http://${sandbox.host}/v2/apptainer/sif/manifests/v1`
    const { layers } = JSON.parse(await sandbox.curl([url]))
    expect(layers).toMatchObject([
      {
        mediaType: 'application/vnd.sylabs.sif.layer.v1.sif',
        digest: digestOf(await bytes('image.sif')),
      },
    ])
  })

  it('shows why a login and a push are refused', async () => {
    const login = ['registry', 'login', '-u', 'admin', '-p', 'wrong', `oras://${sandbox.host}`]
    const refused = await sandbox.run('apptainer', login)
    expect(refused.status).toBe(255)
    expect(refused.stderr).toContain('wrong user name or password: log in to')
    const push = ['push', '--no-https', '--allow-unsigned', 'image.sif']
    const elsewhere = `oras://${sandbox.host}/apptainer/other:v1`
    const stranger = await sandbox.as('stranger')
    const anonymous = await stranger.run('apptainer', [...push, elsewhere])
    expect(anonymous.status).toBe(255)
    // It asks with HEAD first, whose answer has no message.
    expect(anonymous.stderr).toContain('401 Unauthorized')
    const pulled = await stranger.run('apptainer', ['pull', '--no-https', 'none.sif', elsewhere])
    expect(pulled.status).toBe(255)
    expect(pulled.stderr).toMatch(/UNAUTHORIZED/)
  })
})
