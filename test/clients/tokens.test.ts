import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EMPTY_JSON, IMAGE_MANIFEST } from '../support/media-types.ts'
import { makeCredential, makePrivate, type Secret } from './admin-api.ts'
import { BUILD, ClientSandbox, hasClient, type Ran } from './client-sandbox.ts'

const FILE = 'opam-switch:application/vnd.unikernel.opam-switch.v1'
const SECONDS_MAX = 5

let sandbox: ClientSandbox
let base: string
let builder: Secret
let remover: Secret

beforeAll(async () => {
  sandbox = await ClientSandbox.open()
  base = `http://${sandbox.host}`
  builder = await makeCredential(sandbox, 'orb-1', 'builds/**', ['pull', 'push'], ['v*', 'latest'])
  remover = await makeCredential(sandbox, 'keeper', 'builds/**', ['pull', 'delete'])
  await makePrivate(sandbox, 'builds/private')
})

afterAll(() => sandbox?.close())

const basic = ({ name, secret }: Secret) => `${name}:${secret}`

/** Gets a token from /token with curl, as a CI job does. */
async function token(scope: string, by: Secret = builder): Promise<string> {
  const printed = await sandbox.curl(['-u', basic(by), `${base}/token?scope=${scope}`])
  return (JSON.parse(printed) as { token: string }).token
}

/** Runs a client that keeps its login in a folder of its own, so that no login is shared. */
async function as(home: string, command: string, args: string[], input?: string): Promise<Ran> {
  const folder = join(sandbox.folder, home)
  await mkdir(folder, { recursive: true })
  const login = input === undefined ? '' : `printf %s '${input}' | `
  const environment = `HOME='${folder}' DOCKER_CONFIG='${folder}' REGISTRY_AUTH_FILE='${folder}/auth.json'`
  const words = args.map((word) => `'${word}'`).join(' ')
  return sandbox.run('bash', ['-c', `${login}${environment} ${command} ${words}`], BUILD)
}

function expectRefusal(ran: Ran, message: RegExp): void {
  expect(ran.status, ran.stdout + ran.stderr).not.toBe(0)
  expect(ran.stdout + ran.stderr).toMatch(message)
  expect(ran.stdout + ran.stderr).not.toContain(builder.secret)
}

const succeed = async (ran: Promise<Ran>) => {
  const { status, stdout, stderr } = await ran
  expect({ status, stderr }).toMatchObject({ status: 0 })
  return stdout
}

describe.skipIf(!hasClient('oras'))('oras', () => {
  const image = (tag: string) => `${sandbox.host}/builds/private:${tag}`

  it.each([
    ['a credential', async () => [builder.name, builder.secret]],
    [
      'a token as the password',
      async () => ['token', await token('repository:builds/private:pull,push')],
    ],
  ] as const)('logs in with %s, and then pushes, tags, attaches and pulls', async (what, who) => {
    const [user, secret] = await who()
    const home = `oras with ${what}`
    const login = ['login', '--plain-http', '-u', user ?? '', '--password-stdin', sandbox.host]
    await succeed(as(home, 'oras', login, secret))
    const oras = (command: string, ...args: string[]) =>
      succeed(as(home, 'oras', [...command.split(' '), '--plain-http', ...args]))
    await oras('push', image('v1'), FILE)
    await oras('tag', image('v1'), 'v2', 'latest')
    await oras('attach', '--artifact-type', 'application/vnd.example.note', image('v1'), FILE)
    await oras('pull', '-o', join(sandbox.folder, home, 'pulled'), image('latest'))
    const pulled = await readFile(join(sandbox.folder, home, 'pulled/opam-switch'))
    expect(pulled).toEqual(await readFile(join(BUILD, 'opam-switch')))
    expect((await oras('repo tags', image('v1').replace(':v1', ''))).split('\n')).toContain('v2')
  })

  it('is refused elsewhere, for other tags, and for other actions', async () => {
    const as_ = (command: string, ...args: string[]) =>
      as('oras refused', 'oras', [
        ...command.split(' '),
        '--plain-http',
        '-u',
        builder.name,
        '-p',
        builder.secret,
        ...args,
      ])
    expectRefusal(await as_('push', `${sandbox.host}/other/image:v1`, FILE), /unauthorized|denied/i)
    expectRefusal(await as_('push', image('w1'), FILE), /may not push tag w1/)
    expectRefusal(await as_('tag', image('v1'), 'stable'), /may not push tag stable/)
    const removal = [image('v1'), '--force']
    expectRefusal(await as_('manifest delete', ...removal), /unauthorized|denied/i)
    const keeper = ['-u', remover.name, '-p', remover.secret]
    const args = ['manifest', 'delete', '--plain-http', ...keeper, ...removal]
    await succeed(as('oras keeper', 'oras', args))
    await succeed(as_('push', image('v1'), FILE))
  })

  it('reports a wrong password', async () => {
    const login = ['login', '--plain-http', '-u', builder.name, '--password-stdin', sandbox.host]
    expectRefusal(await as('oras wrong', 'oras', login, 'wrong'), /wrong user name or password/)
  })

  it('pulls from a public repository without a secret, and from no other', async () => {
    const open = `${sandbox.host}/builds/open:v1`
    const who = ['-u', builder.name, '-p', builder.secret]
    await succeed(as('oras open', 'oras', ['push', '--plain-http', ...who, open, FILE]))
    const into = join(sandbox.folder, 'oras nobody')
    const pull = (name: string) => ['pull', '--plain-http', '-o', into, name]
    await succeed(as('oras nobody', 'oras', pull(open)))
    expectRefusal(await as('oras nobody', 'oras', pull(image('v1'))), /unauthorized|credential/i)
  })

  it('mounts blobs of a repository that it may pull from', async () => {
    const plain = ['--from-plain-http', '--to-plain-http']
    const who = ['from', 'to'].flatMap((side) => [
      `--${side}-username`,
      builder.name,
      `--${side}-password`,
      builder.secret,
    ])
    const target = `${sandbox.host}/builds/copy:v1`
    const printed = await succeed(
      as('oras cp', 'oras', ['cp', ...plain, ...who, image('v1'), target]),
    )
    expect(printed).toMatch(/^Mounted /m)
  })
})

describe.skipIf(!hasClient('skopeo') || !hasClient('oras'))('skopeo', () => {
  const at = (name: string) => `docker://${sandbox.host}/${name}`
  const COPY = ['copy', '--insecure-policy', '--src-tls-verify=false', '--dest-tls-verify=false']

  beforeAll(async () => {
    const who = ['-u', builder.name, '-p', builder.secret]
    const image = `${sandbox.host}/builds/private:v9`
    await succeed(as('skopeo seed', 'oras', ['push', '--plain-http', ...who, image, FILE]))
  })

  it('logs in and copies there and back', async () => {
    const login = [
      'login',
      '--tls-verify=false',
      '-u',
      builder.name,
      '--password-stdin',
      sandbox.host,
    ]
    await succeed(as('skopeo', 'skopeo', login, builder.secret))
    const folder = `dir:${join(sandbox.folder, 'skopeo copy')}`
    await succeed(as('skopeo', 'skopeo', [...COPY, at('builds/private:v9'), folder]))
    await succeed(as('skopeo', 'skopeo', [...COPY, folder, at('builds/private:v10')]))
    const inspect = ['inspect', '--raw', '--tls-verify=false']
    const raw = await succeed(as('skopeo', 'skopeo', [...inspect, at('builds/private:v10')]))
    expect(JSON.parse(raw)).toMatchObject({ schemaVersion: 2 })
    const elsewhere = await as('skopeo', 'skopeo', [...COPY, folder, at('other/image:v1')])
    expectRefusal(elsewhere, /unauthorized|denied|does not cover/i)
    const tag = await as('skopeo', 'skopeo', [...COPY, folder, at('builds/private:w1')])
    expectRefusal(tag, /may not push tag w1/)
    const removal = ['delete', '--tls-verify=false', at('builds/private:v10')]
    expectRefusal(await as('skopeo', 'skopeo', removal), /unauthorized|denied|does not cover/i)
    const keeper = ['--creds', basic(remover)]
    await succeed(as('skopeo keeper', 'skopeo', [...removal, ...keeper]))
  })

  it('copies with a credential or a token on the command line', async () => {
    const folder = `dir:${join(sandbox.folder, 'skopeo copy')}`
    const target = at('builds/private:v11')
    await succeed(
      as('skopeo one', 'skopeo', [...COPY, '--dest-creds', basic(builder), folder, target]),
    )
    const bearer = await token('repository:builds/private:pull,push')
    await succeed(
      as('skopeo two', 'skopeo', [...COPY, '--dest-registry-token', bearer, folder, target]),
    )
    const login = ['login', '--tls-verify=false', '-u', 'token', '--password-stdin', sandbox.host]
    await succeed(as('skopeo three', 'skopeo', login, bearer))
    await succeed(as('skopeo three', 'skopeo', [...COPY, folder, target]))
  })

  it('reports a wrong password', async () => {
    const login = [
      'login',
      '--tls-verify=false',
      '-u',
      builder.name,
      '--password-stdin',
      sandbox.host,
    ]
    const ran = await as('skopeo wrong', 'skopeo', login, 'wrong')
    expectRefusal(ran, /invalid username\/password|wrong user name or password/)
  })
})

describe('curl', () => {
  const EMPTY = 'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'
  const IMAGE = {
    schemaVersion: 2,
    mediaType: IMAGE_MANIFEST,
    artifactType: 'application/vnd.example.note',
    config: { mediaType: EMPTY_JSON, digest: EMPTY, size: 2 },
    layers: [{ mediaType: EMPTY_JSON, digest: EMPTY, size: 2 }],
  }

  const ways: [string, () => Promise<{ options: string[]; base: string }>][] = [
    ['-u', async () => ({ options: ['-u', basic(builder)], base })],
    [
      '--oauth2-bearer',
      async () => {
        const bearer = await token('repository:builds/private:pull,push')
        return { options: ['--oauth2-bearer', bearer], base }
      },
    ],
    [
      'a URL that was handed over',
      async () => ({ options: [], base: base.replace('//', `//${basic(builder)}@`) }),
    ],
    [
      'a URL with a token in it',
      async () => {
        const bearer = await token('repository:builds/private:pull,push')
        return { options: [], base: base.replace('//', `//token:${bearer}@`) }
      },
    ],
  ]

  it.each(ways)('pushes and pulls with %s', async (way, open) => {
    const { options, base: root } = await open()
    const file = join(sandbox.folder, 'image.json')
    await writeFile(file, JSON.stringify({ ...IMAGE, annotations: { way } }))
    const url = `${root}/v2/builds/private`
    const type = ['-H', `Content-Type: ${IMAGE_MANIFEST}`]
    const octets = ['-H', 'Content-Type: application/octet-stream', '-d', '{}']
    await sandbox.curl([...options, ...octets, `${url}/blobs/uploads/?digest=${EMPTY}`])
    await sandbox.curl([...options, '-T', file, ...type, `${url}/manifests/v20`])
    const pulled = await sandbox.curl([...options, `${url}/manifests/v20`])
    expect(JSON.parse(pulled)).toMatchObject({ annotations: { way } })
    const status = ['-sS', '-o', '/dev/null', '-w', '%{http_code}']
    const elsewhere = `${root}/v2/other/image/blobs/uploads/`
    const refused = await sandbox.run('curl', [...status, ...options, '-X', 'POST', elsewhere])
    expect(refused.stdout).toMatch(/^40[13]$/)
    const tag = [...status, ...options, '-T', file, ...type, `${url}/manifests/stable`]
    expect((await sandbox.run('curl', tag)).stdout).toBe('403')
  })
})

describe('a credential that was revoked', () => {
  it('ends every login with it within seconds', async () => {
    const short = await makeCredential(sandbox, 'short', 'builds/**')
    const bearer = await token('repository:builds/private:pull', short)
    const tags = `${base}/v2/builds/private/tags/list`
    const status = ['-sS', '-o', '/dev/null', '-w', '%{http_code}']
    const ask = async (...options: string[]) =>
      (await sandbox.run('curl', [...status, ...options, tags])).stdout
    expect(await ask('-u', basic(short))).toBe('200')
    expect(await ask('--oauth2-bearer', bearer)).toBe('200')
    await sandbox.api('DELETE', 'credentials/short')
    const options = { timeout: SECONDS_MAX * 1000 }
    await expect.poll(() => ask('-u', basic(short)), options).toBe('401')
    await expect.poll(() => ask('--oauth2-bearer', bearer), options).toBe('401')
  })
})
