import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { BUILD, ClientSandbox, hasClient, PASSWORD } from './client-sandbox.ts'

const LAYERS = [
  ['bin/hello-key.hvt', 'kernel'],
  ['hello-key.hvt.debug', 'debug'],
  ['opam-switch', 'opam-switch'],
  ['system-packages', 'system-packages'],
  ['build-environment', 'build-environment'],
  ['hello-key.build-hashes', 'build-hashes'],
] as const

describe.skipIf(!hasClient('oras'))('oras', () => {
  let sandbox: ClientSandbox
  let image: string
  let digest: string

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    image = `${sandbox.host}/builds/hello-key:latest`
    const files = LAYERS.map(([file, type]) => `${file}:application/vnd.unikernel.${type}.v1`)
    const type = 'application/vnd.unikernel.v1'
    const printed = await sandbox.orasAsAdmin(
      ['push', '--artifact-type', type, image, ...files],
      BUILD,
    )
    digest = /Digest: (sha256:[0-9a-f]{64})/.exec(printed)?.[1] ?? 'none'
  })

  afterAll(() => sandbox?.close())

  it.each(['by tag', 'by digest'])('pulls a whole orb build %s, file by file', async (how) => {
    const folder = join(sandbox.folder, how)
    const reference = how === 'by tag' ? image : image.replace(':latest', `@${digest}`)
    await sandbox.oras(['pull', '--plain-http', '-o', folder, reference])
    for (const [file] of LAYERS) {
      expect(await readFile(join(folder, file))).toEqual(await readFile(join(BUILD, file)))
    }
    expect((await readdir(folder, { recursive: true })).length).toBe(LAYERS.length + 1)
  })

  it('pulls with curl alone by tag, and the layer digest is the kernel’s sha256', async () => {
    const base = `http://${sandbox.host}/v2/builds/hello-key`
    const manifest = JSON.parse(await sandbox.curl([`${base}/manifests/latest`]))
    const kernel = manifest.layers.find(
      ({ mediaType }: { mediaType: string }) => mediaType === 'application/vnd.unikernel.kernel.v1',
    )
    const bytes = await readFile(join(BUILD, 'bin/hello-key.hvt'))
    expect(kernel.digest).toBe(digestOf(bytes))
    await sandbox.curl(['-o', 'kernel', `${base}/blobs/${kernel.digest}`])
    expect(await readFile(join(sandbox.folder, 'kernel'))).toEqual(bytes)
    await sandbox.curl(['-r', '1-3', '-o', 'part', `${base}/blobs/${kernel.digest}`])
    expect(await readFile(join(sandbox.folder, 'part'), 'latin1')).toBe('ELF')
    const revalidation = ['-H', `If-None-Match: "${digest}"`, '-w', '%{http_code}']
    expect(await sandbox.curl([...revalidation, `${base}/manifests/latest`])).toBe('304')
  })

  it('attaches and discovers', async () => {
    await writeFile(join(sandbox.folder, 'sbom.json'), '{"packages":[]}')
    await sandbox.orasAsAdmin([
      'attach',
      '--artifact-type',
      'application/vnd.example.sbom',
      image,
      'sbom.json:application/json',
    ])
    for (const filter of [[], ['--artifact-type', 'application/vnd.example.sbom']]) {
      const found = await sandbox.oras([
        'discover',
        '--plain-http',
        '--format',
        'json',
        ...filter,
        image,
      ])
      const [referrer] = JSON.parse(found).referrers
      expect(referrer.artifactType).toBe('application/vnd.example.sbom')
      const into = join(sandbox.folder, 'attached')
      const attached = image.replace(':latest', `@${referrer.digest}`)
      await sandbox.oras(['pull', '--plain-http', '-o', into, attached])
      expect(await readFile(join(into, 'sbom.json'), 'utf8')).toBe('{"packages":[]}')
    }
    const tree = await sandbox.oras(['discover', '--plain-http', '--format', 'tree', image])
    expect(tree).toContain('application/vnd.example.sbom')
    const other = ['--format', 'json', '--artifact-type', 'application/vnd.example.other']
    const none = await sandbox.oras(['discover', '--plain-http', ...other, image])
    expect(JSON.parse(none).referrers).toEqual([])
  })

  it('logs in with the right password only, and then needs none', async () => {
    const login = ['login', '--plain-http', '-u', 'admin', sandbox.host, '-p']
    const wrong = await sandbox.run('oras', [...login, 'wrong'])
    expect(wrong.status).not.toBe(0)
    expect(wrong.stderr).toMatch(/wrong user name or password/)
    await sandbox.oras([...login, PASSWORD])
    await sandbox.oras(['tag', '--plain-http', image, 'v1', 'v2'])
    await sandbox.oras(['logout', sandbox.host])
    const tags = await sandbox.oras(['repo', 'tags', '--plain-http', image.replace(':latest', '')])
    expect(tags.trim().split('\n')).toEqual(['latest', 'v1', 'v2'])
  })

  it('is refused without a credential, and stores nothing', async () => {
    const other = `${sandbox.host}/builds/refused:latest`
    const ran = await sandbox.run('oras', ['push', '--plain-http', other, 'README.md'], BUILD)
    expect(ran.status).not.toBe(0)
    expect(ran.stderr).toMatch(/unauthorized|basic credential not found/i)
    const repositories = await sandbox.orasAsAdmin(['repo ls', sandbox.host])
    expect(repositories).not.toContain('refused')
    expect(repositories).toContain('builds/hello-key')
  })

  it('copies to another repository without sending the blobs again', async () => {
    const copy = `${sandbox.host}/copies/mounted:copied`
    const plain = ['--from-plain-http', '--to-plain-http']
    // oras mounts a blob only when both sides have the same login.
    const credentials = ['from', 'to'].flatMap((side) => [
      `--${side}-username`,
      'admin',
      `--${side}-password`,
      PASSWORD,
    ])
    const printed = await sandbox.oras(['cp', ...plain, ...credentials, image, copy])
    // The layers and the empty config.
    expect(printed.match(/^Mounted /gm)).toHaveLength(LAYERS.length + 1)
    const folder = join(sandbox.folder, 'mounted')
    await sandbox.oras(['pull', '--plain-http', '-o', folder, copy])
    for (const [file] of LAYERS) {
      expect(await readFile(join(folder, file))).toEqual(await readFile(join(BUILD, file)))
    }
  })

  it('copies to another repository, with its referrers', async () => {
    const copy = `${sandbox.host}/copies/hello-key:copied`
    const credentials = ['--from-plain-http', '--to-plain-http', '--to-username', 'admin']
    await sandbox.oras(['cp', '-r', ...credentials, '--to-password', PASSWORD, image, copy])
    const original = await sandbox.oras(['manifest', 'fetch', '--plain-http', image])
    expect(await sandbox.oras(['manifest', 'fetch', '--plain-http', copy])).toBe(original)
    const found = await sandbox.oras(['discover', '--plain-http', '--format', 'json', copy])
    expect(JSON.parse(found).referrers).toHaveLength(1)
  })

  it('pushes, fetches and deletes blobs and manifests', async () => {
    await mkdir(join(sandbox.folder, 'small'), { recursive: true })
    const content = join(sandbox.folder, 'small', 'content')
    await writeFile(content, 'content')
    const blob = digestOf('content')
    const repository = `${sandbox.host}/builds/small`
    await sandbox.orasAsAdmin(['blob push', repository, content])
    const at = `${repository}@${blob}`
    await sandbox.oras(['blob', 'fetch', '--plain-http', '-o', `${content}.back`, at])
    expect(await readFile(`${content}.back`, 'utf8')).toBe('content')
    await sandbox.orasAsAdmin(['blob delete', '--force', at])
    expect(
      (await sandbox.run('oras', ['blob', 'fetch', '--plain-http', '-o', '-', at])).status,
    ).not.toBe(0)
    const copied = `${sandbox.host}/copies/hello-key:copied`
    await sandbox.orasAsAdmin(['manifest delete', '--force', copied])
    const gone = await sandbox.run('oras', ['manifest', 'fetch', '--plain-http', copied])
    expect(gone.status).not.toBe(0)
    expect(gone.stderr).toMatch(/not found/i)
  })
})
