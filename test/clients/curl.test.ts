import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { EMPTY_JSON, IMAGE_MANIFEST } from '../support/media-types.ts'
import { BUILD, ClientSandbox } from './client-sandbox.ts'

const EMPTY = {
  mediaType: EMPTY_JSON,
  digest: 'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',
  size: 2,
}
const KERNEL = join(BUILD, 'bin/hello-key.hvt')

describe('curl', () => {
  let sandbox: ClientSandbox
  let base: string
  let bytes: Buffer
  let digest: string
  let manifest: string

  /** Returns status and headers of the answer; the body goes to the file `body`. */
  async function ask(...args: string[]): Promise<string> {
    const ran = await sandbox.run('curl', ['-sSL', '-D', '-', '-o', 'body', ...args])
    expect(ran.status, ran.stderr).toBe(0)
    return ran.stdout
  }

  const body = () => readFile(join(sandbox.folder, 'body'))

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    base = `http://${sandbox.host}/v2/by/hand`
    bytes = await readFile(KERNEL)
    digest = digestOf(bytes)
    const mediaType = 'application/vnd.unikernel.kernel.v1'
    const annotations = { 'org.opencontainers.image.title': 'hello-key.hvt' }
    const layers = [{ mediaType, digest, size: bytes.length, annotations }]
    const artifactType = 'application/vnd.unikernel.v1'
    const image = {
      schemaVersion: 2,
      mediaType: IMAGE_MANIFEST,
      artifactType,
      config: EMPTY,
      layers,
    }
    manifest = join(sandbox.folder, 'manifest.json')
    await writeFile(manifest, JSON.stringify(image))
  })

  afterAll(() => sandbox?.close())

  it('pushes an image by hand in four commands', async () => {
    const post = await ask('-u', sandbox.credential, '-X', 'POST', `${base}/blobs/uploads/`)
    expect(post).toMatch(/^HTTP\/1.1 202/)
    const location = /^location: (\S+)/im.exec(post)?.[1] ?? ''
    const upload = new URL(location, base)
    upload.searchParams.set('digest', digest)
    const put = await ask('-u', sandbox.credential, '-T', KERNEL, upload.href)
    expect(put).toMatch(/HTTP\/1.1 201/)
    const config = ['-H', 'Content-Type: application/octet-stream', '-d', '{}']
    const empty = `${base}/blobs/uploads/?digest=${EMPTY.digest}`
    expect(await ask('-u', sandbox.credential, ...config, empty)).toMatch(/HTTP\/1.1 201/)
    const type = ['-H', `Content-Type: ${IMAGE_MANIFEST}`]
    const named = `${base}/manifests/v1`
    const pushed = await ask('-u', sandbox.credential, '-T', manifest, ...type, named)
    expect(pushed).toMatch(/HTTP\/1.1 201/)
    await sandbox.curl(['-o', 'pulled', named])
    expect(await readFile(join(sandbox.folder, 'pulled'))).toEqual(await readFile(manifest))
  })

  it('pulls the kernel without a credential, and revalidates its copy', async () => {
    const answer = await ask(`${base}/blobs/${digest}`)
    expect(answer).toMatch(/^HTTP\/1.1 200/m)
    expect(await body()).toEqual(bytes)
    for (const path of [`blobs/${digest}`, 'manifests/v1']) {
      const etag = /^etag: (\S+)/im.exec(await ask('-I', `${base}/${path}`))?.[1] ?? 'none'
      const again = await ask('-H', `If-None-Match: ${etag}`, `${base}/${path}`)
      expect(again, path).toMatch(/^HTTP\/1.1 304/)
    }
  })

  it('pulls the missing rest of a partial file', async () => {
    const last = bytes.length - 1
    for (const [range, from, to] of [
      ['0-0', 0, 0],
      ['1000-1999', 1000, 1999],
      [`${last - 9}-`, last - 9, last],
      ['-10', last - 9, last],
    ] as const) {
      const answer = await ask('-r', range, `${base}/blobs/${digest}`)
      expect(answer, range).toMatch(/^HTTP\/1.1 206/m)
      expect(answer).toMatch(
        new RegExp(`^content-range: bytes ${from}-${to}/${bytes.length}`, 'im'),
      )
      expect(await body(), range).toEqual(bytes.subarray(from, to + 1))
    }
    const half = join(sandbox.folder, 'half')
    await writeFile(half, bytes.subarray(0, 30_000))
    await sandbox.curl(['-C', '-', '-o', half, `${base}/blobs/${digest}`])
    expect(await readFile(half)).toEqual(bytes)
  })

  it('is refused without the credential or with a wrong one, and stores nothing', async () => {
    const refused = `http://${sandbox.host}/v2/by/nobody`
    for (const credential of [[], ['-u', 'admin:wrong'], ['-u', 'nobody:x']]) {
      for (const request of [
        ['-X', 'POST', `${refused}/blobs/uploads/`],
        ['-T', manifest, '-H', `Content-Type: ${IMAGE_MANIFEST}`, `${refused}/manifests/v1`],
      ]) {
        const answer = await ask(...credential, ...request)
        expect(answer, request.join(' ')).toMatch(/HTTP\/1.1 401/)
        expect(JSON.parse((await body()).toString()).errors[0].code).toBe('UNAUTHORIZED')
      }
    }
    const catalog = await sandbox.curl(['-u', sandbox.credential, `${refused}/../../_catalog`])
    expect(JSON.parse(catalog).repositories).toEqual(['by/hand'])
  })
})
