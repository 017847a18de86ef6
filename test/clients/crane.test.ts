import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ClientSandbox, ELF, hasClient, PASSWORD } from './client-sandbox.ts'
import { expectKernelOf } from './unwrapped.ts'

/** More than a page of names. */
const TAGS = 1024 + 7
const TAGS_OF_A_PUSH = 64
const NOTE = 'application/vnd.example.note'

describe.skipIf(!hasClient('crane'))('crane', () => {
  let sandbox: ClientSandbox
  let image: string

  const crane = (...args: string[]) => sandbox.succeed('crane', args)
  const lines = (text: string) => text.trim().split('\n').sort()
  const kernel = () => readFile(join(ELF, 'mini-net.hvt'))

  /** Returns the files of an image, as a container would see them. */
  async function filesOf(reference: string, folder: string): Promise<string> {
    const into = join(sandbox.folder, folder)
    await sandbox.succeed('mkdir', [into])
    await crane('export', reference, `${into}.tar`)
    await sandbox.succeed('tar', ['-xf', `${into}.tar`, '-C', into])
    return into
  }

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    image = `${sandbox.host}/crane/hello:v1`
    await crane('auth', 'login', sandbox.host, '-u', 'admin', '-p', PASSWORD)
    await sandbox.succeed('tar', ['-cf', 'kernel.tar', '-C', ELF, 'mini-net.hvt'])
    await crane('append', '--oci-empty-base', '-f', 'kernel.tar', '-t', image)
  })

  afterAll(() => sandbox?.close())

  it('appends a kernel to an empty image, and exports the same bytes', async () => {
    await expectKernelOf(sandbox, image, await kernel())
    const folder = await filesOf(image, 'exported')
    expect(await readdir(folder)).toEqual(['mini-net.hvt'])
    expect((await readFile(join(folder, 'mini-net.hvt'))).equals(await kernel())).toBe(true)
    expect(await crane('validate', '--remote', image)).toContain('PASS')
  })

  it.each(['tarball', 'oci', 'legacy'])('pulls as %s and pushes it again', async (format) => {
    const path = join(sandbox.folder, `pulled-${format}`)
    const target = `${sandbox.host}/crane/again:${format}`
    await crane('pull', '--format', format, image, path)
    await crane('push', path, target)
    const folder = await filesOf(target, `files-${format}`)
    expect((await readFile(join(folder, 'mini-net.hvt'))).equals(await kernel())).toBe(true)
    // Only a layout has the manifest's own bytes.
    if (format === 'oci') expect(await crane('digest', target)).toBe(await crane('digest', image))
  })

  it('copies, tags, lists tags and repositories, and deletes', async () => {
    const copied = `${sandbox.host}/crane/copied`
    const digest = (await crane('digest', image)).trim()
    await crane('copy', image, `${copied}:v1`)
    await crane('tag', `${copied}:v1`, 'latest')
    expect(await crane('digest', `${copied}:latest`)).toContain(digest)
    expect(await crane('manifest', `${copied}@${digest}`)).toBe(await crane('manifest', image))
    await crane('copy', '--all-tags', copied, `${sandbox.host}/crane/all`)
    expect(lines(await crane('ls', `${sandbox.host}/crane/all`))).toEqual(['latest', 'v1'])
    expect(lines(await crane('catalog', sandbox.host))).toContain('crane/copied')
    await crane('delete', `${copied}:latest`)
    expect(lines(await crane('ls', copied))).toEqual(['v1'])
    const gone = await sandbox.run('crane', ['digest', `${copied}:latest`])
    expect(gone.status).not.toBe(0)
    expect(gone.stderr).toMatch(/MANIFEST_UNKNOWN|404/)
  })

  it('changes labels and flattens layers, and the config says so', async () => {
    const changed = image.replace(':v1', ':changed')
    await crane(
      'mutate',
      image,
      '--label',
      'unikernel=yes',
      '--append',
      'kernel.tar',
      '-t',
      changed,
    )
    expect(JSON.parse(await crane('config', changed)).config.Labels).toEqual({ unikernel: 'yes' })
    expect(JSON.parse(await crane('manifest', changed)).layers).toHaveLength(2)
    await expectKernelOf(sandbox, changed, await kernel())
    const flat = image.replace(':v1', ':flat')
    await crane('flatten', changed, '-t', flat)
    expect(JSON.parse(await crane('manifest', flat)).layers).toHaveLength(1)
  })

  it('makes an index of two platforms, and pulls the chosen one', async () => {
    const other = image.replace(':v1', ':arm')
    const index = image.replace(':v1', ':multi')
    await crane(
      'mutate',
      image,
      '--set-platform',
      'linux/amd64',
      '-t',
      image.replace(':v1', ':amd'),
    )
    await crane('mutate', image, '--set-platform', 'linux/arm64', '-t', other)
    await crane('index', 'append', '-m', image.replace(':v1', ':amd'), '-m', other, '-t', index)
    const { manifests } = JSON.parse(await crane('manifest', index))
    expect(
      manifests.map(({ platform }: { platform: { architecture: string } }) => platform),
    ).toEqual([
      { os: 'linux', architecture: 'amd64' },
      { os: 'linux', architecture: 'arm64' },
    ])
    const arm = await crane('digest', '--platform', 'linux/arm64', index)
    expect(arm).toBe(await crane('digest', other))
    const copied = `${sandbox.host}/crane/indexes:multi`
    await crane('copy', index, copied)
    expect(await crane('digest', copied)).toBe(await crane('digest', index))
    await crane('index', 'filter', index, '--platform', 'linux/arm64', '-t', copied)
    expect(JSON.parse(await crane('manifest', copied)).manifests).toHaveLength(1)
  })

  it.runIf(hasClient('skopeo') && hasClient('oras'))(
    'and others list more tags than a page has',
    async () => {
      const repository = `${sandbox.host}/crane/tags`
      const expected = Array.from({ length: TAGS }, (_, at) => `t${String(at).padStart(4, '0')}`)
      await crane('copy', image, `${repository}:${expected[0]}`)
      const manifest = join(sandbox.folder, 'manifest.json')
      await writeFile(manifest, await crane('manifest', image))
      const digest = (await crane('digest', image)).trim()
      const url = `http://${repository.replace('/', '/v2/')}/manifests/${digest}`
      const type = ['-H', 'Content-Type: application/vnd.oci.image.manifest.v1+json']
      for (let at = 0; at < TAGS; at += TAGS_OF_A_PUSH) {
        const some = expected.slice(at, at + TAGS_OF_A_PUSH).map((tag) => `tag=${tag}`)
        await sandbox.curl([
          '-u',
          sandbox.credential,
          ...type,
          '-T',
          manifest,
          `${url}?${some.join('&')}`,
        ])
      }
      expect(lines(await crane('ls', repository))).toEqual(expected)
      const skopeo = ['list-tags', '--tls-verify=false', `docker://${repository}`]
      expect(JSON.parse(await sandbox.succeed('skopeo', skopeo)).Tags.sort()).toEqual(expected)
      expect(lines(await sandbox.oras(['repo', 'tags', '--plain-http', repository]))).toEqual(
        expected,
      )
    },
  )

  it.runIf(hasClient('oras'))('copies an image, and what refers to it by its digest', async () => {
    await writeFile(join(sandbox.folder, 'note.txt'), 'a note')
    await sandbox.orasAsAdmin(['attach', '--artifact-type', NOTE, image, 'note.txt:text/plain'])
    const [from, to] = [`${sandbox.host}/crane/hello`, `${sandbox.host}/crane/referred`]
    const digest = (await crane('digest', image)).trim()
    const [referrer] = await referrersOf(from, digest)
    await crane('copy', `${from}@${referrer?.digest}`, `${to}:note`)
    await crane('copy', image, `${to}:v1`)
    expect(await referrersOf(to, digest)).toEqual([referrer])
    expect(referrer?.artifactType).toBe(NOTE)
  })

  async function referrersOf(
    repository: string,
    digest: string,
  ): Promise<{ digest: string; artifactType: string }[]> {
    const url = `http://${repository.replace('/', '/v2/')}/referrers/${digest}`
    // The registry itself adds the image of the kernel.
    return JSON.parse(await sandbox.curl([`${url}?artifactType=${NOTE}`])).manifests
  }
})
