import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { shellBlocksOf } from '../documents/pages.ts'
import { pastePage } from '../documents/pasting.ts'
import { digestOf } from '../support/digest.ts'
import { freePorts } from '../support/free-ports.ts'
import { IMAGE_INDEX, IMAGE_MANIFEST } from '../support/media-types.ts'
import { makeCredential } from './admin-api.ts'
import { BUILD, ClientSandbox, clientPath } from './client-sandbox.ts'
import { type DockerDaemon, DockerUser, hasDocker, startDocker } from './docker-daemon.ts'

const KERNEL = 'hello-key.hvt'
const IN_TOTO = 'application/vnd.in-toto+json'
const ATTESTATION = { 'vnd.docker.reference.type': 'attestation-manifest' }
const SPDX = 'https://spdx.dev/Document'

type Descriptor = {
  mediaType: string
  digest: string
  size: number
  annotations?: Record<string, string>
}

describe.skipIf(!hasDocker())('docker buildx', () => {
  let sandbox: ClientSandbox
  let daemon: DockerDaemon
  let user: DockerUser

  const image = (name: string) => `${sandbox.host}/team/${name}`
  const build = (tag: string, ...more: string[]) =>
    user.run('buildx build --push --tag', image(tag), ...more, 'context')

  async function built(tag: string, ...more: string[]): Promise<string> {
    const ran = await build(tag, ...more)
    expect(ran, ran.stderr).toMatchObject({ status: 0 })
    return ran.stderr
  }

  async function manifest<T>(name: string, reference: string): Promise<T> {
    const address = `http://${sandbox.host}/v2/team/${name}/manifests/${reference}`
    return JSON.parse(await sandbox.curl(['-u', sandbox.credential, address]))
  }

  async function put(name: string, body: string, mediaType: string): Promise<Descriptor> {
    const digest = digestOf(body)
    const isManifest = mediaType === IMAGE_MANIFEST
    const path = isManifest ? `manifests/${digest}` : `blobs/uploads/?digest=${digest}`
    const answer = await fetch(`http://${sandbox.host}/v2/team/${name}/${path}`, {
      method: isManifest ? 'PUT' : 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(sandbox.credential).toString('base64')}`,
        'content-type': isManifest ? mediaType : 'application/octet-stream',
      },
      body,
    })
    expect(answer.status).toBe(201)
    return { mediaType, digest, size: Buffer.byteLength(body) }
  }

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    const context = join(sandbox.folder, 'context')
    await mkdir(context)
    await copyFile(join(BUILD, 'bin', KERNEL), join(context, KERNEL))
    await writeFile(join(context, 'Dockerfile'), `FROM scratch\nCOPY ${KERNEL} /\n`)
    daemon = await startDocker(sandbox, 'containerd')
    user = await DockerUser.open(sandbox, daemon, 'builder')
    const { name, secret } = await makeCredential(sandbox, 'builder', 'team/**')
    expect(await user.login(name, secret)).toMatchObject({ status: 0 })
  })

  afterAll(async () => {
    await daemon?.stop()
    await sandbox?.close()
  })

  it('pushes an index with the provenance of the build, and reads it back', async () => {
    await built('www:v1', '--provenance=mode=max')
    const { manifests } = await manifest<{ manifests: Descriptor[] }>('www', 'v1')
    expect(manifests[1]?.annotations).toMatchObject({
      ...ATTESTATION,
      'vnd.docker.reference.digest': manifests[0]?.digest,
    })
    const inspect = 'buildx imagetools inspect --format'
    const provenance = await user.docker(inspect, '{{json .Provenance}}', image('www:v1'))
    expect(JSON.parse(provenance).SLSA.buildConfig.llbDefinition).toHaveLength(3)
    await user.docker('image rm', image('www:v1'))
    await user.docker('pull', image('www:v1'))
  })

  it('reads an SBOM in the attestations of an image', async () => {
    await built('sbom:v1', '--provenance=mode=min')
    const index = await manifest<{ manifests: [Descriptor, Descriptor] }>('sbom', 'v1')
    const [platform, attested] = index.manifests
    const attestation = await manifest<{ layers: Descriptor[] }>('sbom', attested.digest)
    const predicate = { spdxVersion: 'SPDX-2.3', SPDXID: 'SPDXRef-DOCUMENT', name: 'hello-key' }
    const statement = { _type: 'https://in-toto.io/Statement/v0.1', predicateType: SPDX, predicate }
    // A scanner is a container, which the daemon of the tests runs without a network: none.
    const layer = await put('sbom', JSON.stringify(statement), IN_TOTO)
    const annotations = { 'in-toto.io/predicate-type': SPDX }
    const layers = [...attestation.layers, { ...layer, annotations }]
    const scanned = await put('sbom', JSON.stringify({ ...attestation, layers }), IMAGE_MANIFEST)
    const parts = [platform, { ...attested, ...scanned }]
    const body = JSON.stringify({ ...index, manifests: parts })
    await writeFile(join(sandbox.folder, 'index.json'), body)
    const args = ['-T', 'index.json', '-H', `Content-Type: ${IMAGE_INDEX}`]
    const address = `http://${sandbox.host}/v2/team/sbom/manifests/v2`
    await sandbox.curl(['-u', sandbox.credential, ...args, address])
    const inspect = 'buildx imagetools inspect --format'
    const read = await user.docker(inspect, '{{json .SBOM}}', image('sbom:v2'))
    expect(JSON.parse(read).SPDX).toMatchObject(predicate)
  })

  it.each([
    ['an image', ''],
    ['an index of blobs', ',image-manifest=false'],
    ["docker's list of blobs", ',image-manifest=false,oci-mediatypes=false'],
  ])('keeps its cache in the registry as %s, and builds from it', async (kind, options) => {
    const ref = image(`cache-${kind.replaceAll(/\W/g, '')}:main`)
    const cache = `type=registry,ref=${ref}`
    await built('cached:v1', '--cache-to', `${cache},mode=max${options}`)
    await user.docker('buildx prune --all --force')
    const log = await built('cached:v2', '--cache-from', cache)
    expect(log).toMatch(/COPY hello-key\.hvt \/\n#\d+ CACHED/)
  })

  it('without the right to push says so', async () => {
    const { name, secret } = await makeCredential(sandbox, 'reader', 'team/**', ['pull'])
    const reader = await DockerUser.open(sandbox, daemon, 'reader')
    expect(await reader.login(name, secret)).toMatchObject({ status: 0 })
    const refused = await reader.refused('buildx build --push --tag', image('www:v2'), 'context')
    expect(refused).toMatch(/insufficient_scope: authorization failed/)
    const cache = `type=registry,ref=${image('cache-of-reader')}`
    const cached = await reader.refused('buildx build --cache-to', cache, 'context')
    expect(cached).toMatch(/insufficient_scope: authorization failed|denied/)
  })

  it('imagetools joins images of other repositories under a tag, and inspects it', async () => {
    await built('one:v1')
    await built('two:v1', '--label', 'part=two')
    const sources = [image('one:v1'), image('two:v1')]
    await user.docker('buildx imagetools create --tag', image('both:v1'), ...sources)
    const printed = await user.docker('buildx imagetools inspect', image('both:v1'))
    const { manifests } = await manifest<{ manifests: Descriptor[] }>('both', 'v1')
    expect(manifests).toHaveLength(4)
    for (const { digest } of manifests) expect(printed).toContain(digest)
    const raw = await user.docker('buildx imagetools inspect --raw', image('both:v1'))
    expect(JSON.parse(raw)).toEqual(await manifest('both', 'v1'))
  })

  it('works as the page about clients says: a reader pastes its blocks', async () => {
    const page = 'docs/clients.md'
    const blocks = shellBlocksOf(page).filter(({ section }) => ['', 'docker'].includes(section))
    const [port = 0] = await freePorts(1)
    const reader = await DockerUser.open(sandbox, daemon, 'reader of the page')
    const programs = [dirname(clientPath('docker')), process.env.PATH ?? '']
    const environment = reader.environment
    await pastePage(page, {
      port,
      blocks,
      programs,
      environment,
      async check({ printed }) {
        expect(printed[1]).toContain('Login Succeeded')
        expect(printed[2]).toContain('attestation-manifest')
        expect(printed.at(-1)).toMatch(/Digest: +sha256:/)
        const [part] = printed[1]?.match(/(?<=digest: )sha256:[0-9a-f]{64}/) ?? []
        const answer = await fetch(`http://127.0.0.1:${port}/v2/team/www/manifests/v1`)
        expect(answer.headers.get('docker-content-digest')).toBe(part)
      },
    })
  })
})
