import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BUILD, ClientSandbox, hasClient, PASSWORD } from './client-sandbox.ts'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json'
const NOTATION = 'application/vnd.cncf.notary.signature'

let sandbox: ClientSandbox
let images = 0

beforeAll(async () => {
  sandbox = await ClientSandbox.open()
  Object.assign(sandbox.environment, {
    COSIGN_PASSWORD: 'only for tests',
    // cosign asks a server on the internet for keys that these tests do not use.
    HTTPS_PROXY: 'http://127.0.0.1:9',
  })
})

afterAll(() => sandbox?.close())

/** Pushes a unikernel to a repository of its own, and returns it by digest. */
async function pushUnikernel(
  visibility: 'public' | 'private' = 'public',
): Promise<{ repository: string; digest: string; image: string }> {
  images += 1
  const repository = `signed/hello-${images}`
  await sandbox.api('PUT', `repositories/${repository}/settings`, { visibility })
  const push = `push --username admin --password-stdin '${BUILD}' '${sandbox.host}/${repository}:v1'`
  const command = `printf %s '${PASSWORD}' | node '${MAIN}' ${push}`
  const printed = await sandbox.succeed('bash', ['-c', command])
  const digest = /sha256:[0-9a-f]{64}/.exec(printed)?.[0] ?? 'none'
  return { repository, digest, image: `${sandbox.host}/${repository}@${digest}` }
}

async function tagsOf(repository: string): Promise<string[]> {
  const url = `http://${sandbox.host}/v2/${repository}/tags/list`
  return JSON.parse(await sandbox.curl(['-u', sandbox.credential, url])).tags
}

async function referrersOf(repository: string, digest: string): Promise<string[]> {
  const url = `http://${sandbox.host}/v2/${repository}/referrers/${digest}`
  const { manifests } = JSON.parse(await sandbox.curl(['-u', sandbox.credential, url]))
  return manifests.map(({ artifactType }: { artifactType: string }) => artifactType)
}

describe.skipIf(!hasClient('cosign'))('cosign', () => {
  const registry = ['--allow-http-registry', '--allow-insecure-registry']
  const login = ['--registry-username', 'admin', '--registry-password', PASSWORD]
  /** Without a transparency log. As a bundle, which is a referrer, or under a tag, as before cosign 3. */
  const asBundle = ['--signing-config', 'signing.json']
  const asTag = ['--use-signing-config=false', '--new-bundle-format=false', '--tlog-upload=false']
  const sign = ['sign', '--yes', '--key', 'cosign.key', ...registry, ...login]
  const attest = ['attest', '--yes', '--key', 'cosign.key', ...registry, ...login]
  const claim = ['--type', 'custom', '--predicate', 'predicate.json']
  const verify = ['--key', 'cosign.pub', '--insecure-ignore-tlog', ...registry]
  const cosign = (...args: string[]) => sandbox.succeed('cosign', args)

  beforeAll(async () => {
    await cosign('generate-key-pair')
    await cosign('signing-config', 'create', '--out', 'signing.json')
    await writeFile(join(sandbox.folder, 'predicate.json'), '{"tested":true}')
  })

  it('signs and attests a unikernel as referrers, and anybody verifies both', async () => {
    const { repository, digest, image } = await pushUnikernel()
    const unsigned = await sandbox.run('cosign', ['verify', ...verify, image])
    expect(unsigned.status).not.toBe(0)
    expect(unsigned.stderr).toMatch(/no signatures found/)
    await cosign(...sign, ...asBundle, image)
    await cosign(...attest, ...asBundle, ...claim, image)
    expect(await referrersOf(repository, digest)).toEqual([BUNDLE, BUNDLE])
    expect(await tagsOf(repository)).toEqual(['v1'])
    const [signature] = JSON.parse(await cosign('verify', ...verify, image))
    expect(signature.critical.image['docker-manifest-digest']).toBe(digest)
    const attested = await cosign('verify-attestation', ...verify, '--type', 'custom', image)
    const statement = Buffer.from(JSON.parse(attested).payload, 'base64').toString()
    expect(JSON.parse(statement).subject[0].digest.sha256).toBe(digest.slice('sha256:'.length))
    expect((await cosign('tree', ...registry, image)).match(/via OCI referrer/g)).toHaveLength(2)
  })

  it('signs and attests under tags, shows them, copies them with the image, and removes them', async () => {
    const { repository, digest, image } = await pushUnikernel()
    const old = '--new-bundle-format=false'
    await cosign(...sign, ...asTag, image)
    await cosign(...attest, ...asTag, ...claim, image)
    const named = digest.replace(':', '-')
    expect(await tagsOf(repository)).toEqual([`${named}.att`, `${named}.sig`, 'v1'])
    await cosign('verify', ...verify, old, image)
    await cosign('verify-attestation', ...verify, old, '--type', 'custom', image)
    expect(await cosign('tree', ...registry, image)).toMatch(/Signatures[\s\S]*Attestations|Att/)
    const copied = `${repository}-copied`
    await cosign('copy', ...registry, ...login, image, `${sandbox.host}/${copied}:v1`)
    await cosign('verify', ...verify, old, `${sandbox.host}/${copied}:v1`)
    await cosign('clean', '--force', ...registry, ...login, image)
    expect(await tagsOf(repository)).toEqual(['v1'])
  })

  it('signs as a referrer with a subject, the second way before cosign 3', async () => {
    const { repository, digest, image } = await pushUnikernel()
    sandbox.environment.COSIGN_EXPERIMENTAL = '1'
    await cosign(...sign, ...asTag, '--registry-referrers-mode=oci-1-1', image)
    delete sandbox.environment.COSIGN_EXPERIMENTAL
    expect(await referrersOf(repository, digest)).toEqual([
      'application/vnd.dev.cosign.artifact.sig.v1+json',
    ])
  })

  it('needs a login to sign, and to verify in a private repository', async () => {
    const { image } = await pushUnikernel('private')
    const stranger = await sandbox.as('stranger')
    const key = ['--yes', '--key', 'cosign.key', ...registry, ...asBundle]
    const refused = await stranger.run('cosign', ['sign', ...key, image])
    expect(refused.status).not.toBe(0)
    expect(refused.stderr).toMatch(/UNAUTHORIZED: .*needs a login/)
    await cosign(...sign, ...asBundle, image)
    const hidden = await stranger.run('cosign', ['verify', ...verify, image])
    expect(hidden.status).not.toBe(0)
    expect(hidden.stderr).toMatch(/UNAUTHORIZED: .*needs a login/)
    await cosign('verify', ...verify, ...login, image)
  })
})

describe.skipIf(!hasClient('notation'))('notation', () => {
  const notation = (...args: string[]) => sandbox.succeed('notation', args)
  const plain = '--insecure-registry'
  const login = ['-u', 'admin', '-p', PASSWORD]

  beforeAll(async () => {
    await notation('cert', 'generate-test', '--default', 'rookery.test')
    const policy = {
      version: '1.0',
      trustPolicies: [
        {
          name: 'tests',
          registryScopes: ['*'],
          signatureVerification: { level: 'strict' },
          trustStores: ['ca:rookery.test'],
          trustedIdentities: ['*'],
        },
      ],
    }
    await mkdir(join(sandbox.home, '.config/notation'), { recursive: true })
    await writeFile(join(sandbox.home, '.config/notation/trustpolicy.json'), JSON.stringify(policy))
  })

  it.each([
    ['the API', '--force-referrers-tag=false', []],
    ['a tag', '--force-referrers-tag=true', ['sha256-DIGEST']],
  ] as const)('signs with %s for referrers, lists, inspects and verifies', async (_, way, more) => {
    const { repository, digest, image } = await pushUnikernel()
    const unsigned = await sandbox.run('notation', ['verify', plain, image])
    expect(unsigned.status).not.toBe(0)
    expect(unsigned.stderr).toContain('no signature is associated with')
    for (const format of ['jws', 'cose']) {
      await notation('sign', plain, ...login, way, '--signature-format', format, image)
    }
    const tags = more.map((tag) => tag.replace('DIGEST', digest.slice('sha256:'.length)))
    expect(await tagsOf(repository)).toEqual([...tags, 'v1'])
    expect(await referrersOf(repository, digest)).toEqual([NOTATION, NOTATION])
    expect((await notation('list', plain, image)).match(/sha256:\w{64}$/gm)).toHaveLength(2 + 1)
    expect(await notation('inspect', plain, image)).toContain('application/jose+json')
    expect(await notation('verify', plain, image)).toContain('Successfully verified signature')
  })

  it('logs in with the right password only, and a private repository needs the login', async () => {
    const { image } = await pushUnikernel('private')
    const refused = await sandbox.run('notation', ['sign', plain, image])
    expect(refused.status).not.toBe(0)
    expect(refused.stderr).toMatch(/401: Unauthorized/)
    const wrong = ['login', plain, '-u', 'admin', '-p', 'wrong', sandbox.host]
    const denied = await sandbox.run('notation', wrong)
    expect(denied.status).not.toBe(0)
    expect(denied.stderr).toContain('wrong user name or password: log in to')
    await notation('sign', plain, ...login, image)
    const hidden = await sandbox.run('notation', ['verify', plain, image])
    expect(hidden.status).not.toBe(0)
    await notation('verify', plain, ...login, image)
  })
})
