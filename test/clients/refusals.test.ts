import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { EMPTY_JSON } from '../support/media-types.ts'
import { ClientSandbox, ELF, hasClient, PASSWORD, type Ran } from './client-sandbox.ts'
import { prepareContainerTools } from './container-tools.ts'
import { Containerd } from './containerd.ts'
import { OciLayout } from './oci-layout.ts'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const PLAIN = '--tls-verify=false'
const WAIT = { timeout: 10_000, interval: 200 }
const CONTRADICTION = /the kernel.*hvt.*spt|spt.*hvt/

type Login = { user: string; secret: string }
/** How a client pushes and pulls. `target` has the host and no scheme; a login is given for the command alone. */
type Client = {
  push(target: string, login: Login): Promise<Ran>
  /** Pushes a unikernel whose claim contradicts its kernel. */
  contradict?(target: string, login: Login): Promise<Ran>
  pull(target: string, into: string): Promise<Ran>
  /** The words for a wrong password, when the client does not show those of the registry. */
  wrongPassword?: RegExp
  tooFewRights?: RegExp
  expired?: RegExp
  contradiction?: RegExp
}

const names = ['crane', 'skopeo', 'oras', 'podman', 'buildah', 'containerd', 'apptainer'] as const
const areHere = names.map(hasClient).every((isHere) => isHere)

describe.skipIf(!areHere)('a refusal', () => {
  let sandbox: ClientSandbox
  let containerd: Containerd
  let clients: Record<(typeof names)[number], Client>
  let reader: Login
  let expired: Login

  const admin: Login = { user: 'admin', secret: PASSWORD }
  const wrong: Login = { user: 'admin', secret: 'wrong' }

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    await prepareContainerTools(sandbox)
    sandbox.environment.APPTAINER_CACHEDIR = join(sandbox.folder, 'cache')
    containerd = await Containerd.start(sandbox)
    expired = { user: 'token', secret: await mintToken('1s') }
    const request = { name: 'reader', repositories: ['**'], actions: ['pull'] }
    const { secret } = (await (await sandbox.api('POST', 'credentials', request)).json()) as Login
    reader = { user: 'reader', secret }
    await makeImages()
    clients = { crane, skopeo, oras, podman, buildah, containerd: ctr, apptainer }
    await vi.waitUntil(async () => (await tokenAnswer(expired.secret)) === '401', WAIT)
  })

  afterAll(async () => {
    await containerd?.stop()
    await sandbox?.close()
  })

  async function mintToken(lifetime: string): Promise<string> {
    const command = `token mint --repository '**' --action pull,push --ttl ${lifetime}`
    const data = `ROOKERY_DATA_DIR='${join(sandbox.folder, 'data')}'`
    return (await sandbox.succeed('bash', ['-c', `${data} node '${MAIN}' ${command}`])).trim()
  }

  async function tokenAnswer(token: string): Promise<string> {
    const address = `http://${sandbox.host}/v2/`
    const status = ['-sS', '-o', '/dev/null', '-w', '%{http_code}']
    return sandbox.succeed('curl', [...status, '--oauth2-bearer', token, address])
  }

  /** An image in a public and a private repository, as a layout, and for the stores of the clients. */
  async function makeImages(): Promise<void> {
    const image = `${sandbox.host}/public/hello:v1`
    await sandbox.api('PUT', 'repositories/private/hello/settings', { visibility: 'private' })
    await craneLogin(admin)
    await sandbox.succeed('tar', ['-cf', 'kernel.tar', '-C', ELF, 'mini-net.hvt'])
    await sandbox.succeed('crane', ['append', '--oci-empty-base', '-f', 'kernel.tar', '-t', image])
    const platform = `linux/${process.arch === 'arm64' ? 'arm64' : 'amd64'}`
    await sandbox.succeed('crane', ['mutate', image, '--set-platform', platform, '-t', image])
    await sandbox.succeed('crane', ['copy', image, `${sandbox.host}/private/hello:v1`])
    await sandbox.succeed('crane', ['auth', 'logout', sandbox.host])
    await sandbox.succeed('skopeo', [
      'copy',
      '--src-tls-verify=false',
      `docker://${image}`,
      'oci:image:v1',
    ])
    await sandbox.succeed('podman', ['pull', '--quiet', PLAIN, image])
    await sandbox.succeed('apptainer', ['sif', 'new', 'small.sif'])
    const layout = await OciLayout.create(join(sandbox.folder, 'contradiction'))
    const kernel = await layout.keep(
      await readFile(join(ELF, 'mini-net.hvt')),
      'application/vnd.unikernel.kernel.v1',
    )
    const contradiction = {
      artifactType: 'application/vnd.unikernel.v1',
      config: await layout.keep('{}', EMPTY_JSON),
      layers: [{ ...kernel, annotations: { 'org.opencontainers.image.title': 'mini-net.hvt' } }],
      annotations: { 'vnd.unikernel.target': 'spt' },
    }
    await layout.tag(await layout.keepManifest(contradiction), 'v1')
    await sandbox.succeed('tar', ['-cf', 'contradiction.tar', '-C', layout.folder, '.'])
    await containerd.succeed('images', 'pull', '--plain-http', '--snapshotter', 'native', image)
    const local = ['--index-name', 'example.org/contradiction:v1', '--no-unpack']
    await containerd.succeed('images', 'import', ...local, 'contradiction.tar')
  }

  const craneLogin = ({ user, secret }: Login) =>
    sandbox.succeed('crane', ['auth', 'login', sandbox.host, '-u', user, '-p', secret])

  const crane: Client = {
    push: async (target, login) => {
      await craneLogin(login)
      return sandbox.run('crane', ['push', 'image', target])
    },
    contradict: async (target, login) => {
      await craneLogin(login)
      return sandbox.run('crane', ['push', 'contradiction', target])
    },
    pull: async (target, into) => {
      await sandbox.succeed('crane', ['auth', 'logout', sandbox.host])
      return sandbox.run('crane', ['pull', target, into])
    },
  }

  const skopeoCopy = (layout: string, target: string, { user, secret }: Login) => {
    const login = ['--dest-tls-verify=false', '--dest-creds', `${user}:${secret}`]
    return sandbox.run('skopeo', ['copy', ...login, `oci:${layout}:v1`, `docker://${target}`])
  }
  const skopeo: Client = {
    push: (target, login) => skopeoCopy('image', target, login),
    contradict: (target, login) => skopeoCopy('contradiction', target, login),
    pull: (target, into) =>
      sandbox.run('skopeo', [
        'copy',
        '--src-tls-verify=false',
        `docker://${target}`,
        `oci:${into}`,
      ]),
  }

  const orasPush = (target: string, { user, secret }: Login, ...more: string[]) => {
    const login = ['--plain-http', '-u', user, '-p', secret]
    return sandbox.run('oras', ['push', ...login, target, ...more], ELF)
  }
  const oras: Client = {
    push: (target, login) => orasPush(target, login, 'mini-net.hvt'),
    contradict: (target, login) => {
      const claim = ['--annotation', 'vnd.unikernel.target=spt']
      const kernel = 'mini-net.hvt:application/vnd.unikernel.kernel.v1'
      return orasPush(target, login, ...claim, kernel)
    },
    pull: (target, into) =>
      sandbox.run('oras', ['cp', '--from-plain-http', target, '--to-oci-layout', `${into}:v1`]),
  }

  const withContainers = (tool: 'podman' | 'buildah'): Client => ({
    push: (target, { user, secret }) => {
      const image = `${sandbox.host}/public/hello:v1`
      const login = [PLAIN, '--creds', `${user}:${secret}`]
      return sandbox.run(tool, ['push', '--quiet', ...login, image, `docker://${target}`])
    },
    pull: (target) => sandbox.run(tool, ['pull', '--quiet', PLAIN, target]),
  })
  const podman = withContainers('podman')
  const buildah = withContainers('buildah')

  const ctrPush = (image: string, target: string, { user, secret }: Login) =>
    containerd.run('images', 'push', '--plain-http', '-u', `${user}:${secret}`, target, image)
  const ctr: Client = {
    push: (target, login) => ctrPush(`${sandbox.host}/public/hello:v1`, target, login),
    // It shows the code of a challenge or the status, and no message.
    contradiction: /400 Bad Request/,
    wrongPassword: /401 Unauthorized/,
    tooFewRights: /insufficient_scope/,
    expired: /401 Unauthorized/,
    contradict: (target, login) => ctrPush('example.org/contradiction:v1', target, login),
    pull: (target) =>
      containerd.run('images', 'pull', '--plain-http', '--snapshotter', 'native', target),
  }

  const apptainer: Client = {
    push: async (target, { user, secret }) => {
      // Its login is refused for a bad password, so the file of a login is written here.
      const auth = Buffer.from(`${user}:${secret}`).toString('base64')
      await mkdir(join(sandbox.home, '.docker'), { recursive: true })
      const config = JSON.stringify({ auths: { [sandbox.host]: { auth } } })
      await writeFile(join(sandbox.home, '.docker/config.json'), config)
      const push = ['push', '--no-https', '--allow-unsigned', 'small.sif']
      return sandbox.run('apptainer', [...push, `oras://${target}`])
    },
    pull: async (target, into) => {
      await rm(join(sandbox.home, '.docker'), { recursive: true, force: true })
      return sandbox.run('apptainer', ['pull', '--no-https', into, `docker://${target}`])
    },
  }

  describe.each(names)('by %s', (name) => {
    const target = (kind: string) => `${sandbox.host}/refused/${name}-${kind}:v1`

    async function expectRefusal(run: Promise<Ran>, words: RegExp, secret: string): Promise<void> {
      const ran = await run
      expect(ran.status, ran.stdout).not.toBe(0)
      expect(ran.stdout + ran.stderr).toMatch(words)
      expect(ran.stdout + ran.stderr).not.toContain(secret)
      const catalog = `http://${sandbox.host}/v2/_catalog`
      expect(await sandbox.curl(['-u', sandbox.credential, catalog])).not.toContain('refused/')
    }

    it('names the reason of a refused push, and stores nothing', async () => {
      const client = clients[name]
      const words = client.wrongPassword ?? /wrong user name or password: log in to /
      await expectRefusal(client.push(target('wrong'), wrong), words, '"wrong"')
      const few = client.tooFewRights ?? /the token of reader does not cover push in refused\//
      await expectRefusal(client.push(target('reader'), reader), few, reader.secret)
      const late = client.expired ?? /the token has expired/
      await expectRefusal(client.push(target('expired'), expired), late, expired.secret)
      if (client.contradict === undefined) return
      await expectRefusal(
        client.contradict(target('contradiction'), admin),
        client.contradiction ?? CONTRADICTION,
        PASSWORD,
      )
    })

    it('pulls what is public without a login, and nothing that is private', async () => {
      const client = clients[name]
      const open = await client.pull(`${sandbox.host}/public/hello:v1`, `${name}-public`)
      expect(open.status, open.stderr).toBe(0)
      const hidden = await client.pull(`${sandbox.host}/private/hello:v1`, `${name}-private`)
      expect(hidden.status).not.toBe(0)
      expect(hidden.stderr).toMatch(/unauthorized|authoriz|denied|login/i)
      const missing = await client.pull(`${sandbox.host}/private/helli:v1`, `${name}-missing`)
      const alike = ({ stderr }: Ran) =>
        stderr
          .split('\n')
          .at(-2)
          ?.replace(/hell[io]|[\d:]{8}Z? ?|private\/\S+/g, '')
      expect(alike(missing)).toBe(alike(hidden))
    })
  })
})
