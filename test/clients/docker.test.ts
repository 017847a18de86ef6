import { readFileSync } from 'node:fs'
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePorts } from '../support/free-ports.ts'
import { makeCredential, makePrivate, type Secret } from './admin-api.ts'
import { BUILD, ClientSandbox, hasClient, PASSWORD } from './client-sandbox.ts'
import {
  type DockerDaemon,
  DockerUser,
  hasDocker,
  IMAGE_STORES,
  type ImageStore,
  startDocker,
} from './docker-daemon.ts'
import { type Nginx, startNginx } from './nginx-server.ts'
import { expectKernelOf } from './unwrapped.ts'

const KERNEL = 'hello-key.hvt'
const DOCKERFILE = `FROM scratch\nCOPY ${KERNEL} /\n`
const CONTEXT = 'context'
const PAGE = readFileSync(new URL('../../docs/clients.md', import.meta.url), 'utf8')
/** Each sends the stored login several times. */
const PUSHES = 12
/** Every replica ends what a rotation ended within seconds. */
const ENDED = { timeout: 20_000, interval: 200 }

let sandbox: ClientSandbox
let ci: Secret
let tls: { nginx: Nginx; host: string }
const daemons = new Map<ImageStore, DockerDaemon>()

const on = (store: ImageStore, name: string) =>
  DockerUser.open(sandbox, daemons.get(store) as DockerDaemon, name)

/** Opens a user who is logged in with the credential for the repositories below `team/`. */
async function member(store: ImageStore, name = 'member'): Promise<DockerUser> {
  const user = await on(store, name)
  expect(await user.login(ci.name, ci.secret)).toMatchObject({ status: 0 })
  return user
}

const image = (name: string) => `${sandbox.host}/${name}`
/** Gives the image that every daemon has a name. */
const nameImage = (user: DockerUser, reference: string) => user.docker('tag seed', reference)

/** Returns the digest of the manifest that a tag has in the registry. */
async function digestIn(reference: string): Promise<string> {
  const path = reference.replace(`${sandbox.host}/`, 'v2/').replace(/:([^:]+)$/, '/manifests/$1')
  const printed = await sandbox.curl([
    '-I',
    '-u',
    sandbox.credential,
    `http://${sandbox.host}/${path}`,
  ])
  return /^docker-content-digest: (\S+)/im.exec(printed)?.[1] ?? ''
}

describe.skipIf(!(hasDocker() && hasClient('nginx')))('docker', () => {
  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    await mkdir(join(sandbox.folder, CONTEXT))
    await copyFile(join(BUILD, 'bin', KERNEL), join(sandbox.folder, CONTEXT, KERNEL))
    await writeFile(join(sandbox.folder, CONTEXT, 'Dockerfile'), DOCKERFILE)
    ci = await makeCredential(sandbox, 'ci', 'team/**')
    tls = await startTls()
    const authority = { containerd: tls.nginx.path('fullchain.pem'), classic: undefined }
    for (const store of IMAGE_STORES) {
      daemons.set(store, await startDocker(sandbox, store, { authority: authority[store] }))
      await buildWith('0', await on(store, 'seed'), 'seed')
    }
  })

  afterAll(async () => {
    for (const daemon of daemons.values()) await daemon.stop()
    tls?.nginx.stop()
    await sandbox?.close()
  })

  describe.each(IMAGE_STORES)('with its %s image store', (store) => {
    it('builds an image of a kernel, pushes it, and pulls the same by tag and by digest', async () => {
      const user = await member(store)
      for (const builder of ['0', '1'] as const) {
        const tag = image(`team/www-${store}:built-${builder}`)
        await buildWith(builder, user, tag)
        const pushed = await user.docker('push', tag)
        const digest = await digestIn(tag)
        expect(pushed).toContain(`digest: ${digest}`)
        await expectKernelOf(sandbox, tag, await readFile(join(BUILD, 'bin', KERNEL)))
        const id = await idOf(user, tag)
        for (const name of [tag, `${tag.slice(0, tag.lastIndexOf(':'))}@${digest}`]) {
          await user.docker('image rm --force', tag)
          expect(await user.docker('pull', name)).toContain(digest)
          expect(await idOf(user, name)).toBe(id)
          await user.docker('tag', name, tag)
        }
        expect(await kernelOf(user, tag)).toEqual(await readFile(join(BUILD, 'bin', KERNEL)))
      }
    })

    if (process.env.TEST_STORE !== undefined) return
    describeUsers(store)
    describe('a login', () => describeEndedLogins(store))
    describe('behind TLS', () => describeTls(store))
  })
})

function describeUsers(store: ImageStore): void {
  it('logs in, and says why a wrong password is refused', async () => {
    const user = await on(store, 'newcomer')
    for (const [who, secret] of [
      ['admin', 'not the password'],
      ['nobody', ci.secret],
      [ci.name, `${ci.secret.slice(0, -1)}x`],
    ] as const) {
      const wrong = await user.login(who, secret)
      expect(wrong.status).toBe(1)
      const words = `wrong user name or password: log in to ${sandbox.host} again`
      expect(wrong.stderr).toContain(words)
      expect(wrong.stderr).not.toContain(secret)
    }
    for (const [who, secret, kept, refreshToken] of [
      // The password of the environment ends when the environment changes.
      ['admin', PASSWORD, `admin:${PASSWORD}`, undefined],
      [ci.name, ci.secret, 'ci:', expect.stringMatching(/^rkr_/)],
    ] as const) {
      expect((await user.login(who, secret)).stdout).toContain('Login Succeeded')
      const stored = JSON.parse(await readFile(user.config, 'utf8')).auths[sandbox.host]
      expect(Buffer.from(stored.auth, 'base64').toString()).toBe(kept)
      expect(stored.identitytoken).toEqual(refreshToken)
    }
  })

  it('pulls from a public repository after a logout, and from a private one only with a login', async () => {
    const user = await member(store, 'leaver')
    const [open, closed] = [image(`team/open:${store}`), image(`team/closed:${store}`)]
    await makePrivate(sandbox, 'team/closed')
    for (const tag of [open, closed]) {
      await nameImage(user, tag)
      await user.docker('push', tag)
      await user.docker('image rm', tag)
      await user.docker('pull', tag)
      await user.docker('image rm', tag)
    }
    await user.docker('logout', sandbox.host)
    await user.docker('pull', open)
    const refused =
      /pull access denied for .*team\/closed, repository does not exist or may require/
    expect(await user.refused('pull', closed)).toMatch(refused)
    await nameImage(user, image('team/open:anonymous'))
    expect(await user.refused('push', image('team/open:anonymous'))).toMatch(
      store === 'classic'
        ? /push in team\/open needs a login/
        : /insufficient_scope: authorization failed/,
    )
  })

  it('says that a login is for other repositories', async () => {
    const user = await member(store)
    await nameImage(user, image('other/www:v1'))
    const refused = await user.refused('push', image('other/www:v1'))
    expect(refused).toMatch(
      store === 'classic'
        ? /denied: the token of ci does not cover push in other\/www: it has no access to a repository, because its holder has none there/
        : /push access denied, repository does not exist or may require authorization: server message: insufficient_scope/,
    )
    expect(await user.refused('pull', image('other/www:v1'))).toContain('pull access denied for')
    const unknown = await user.refused('pull', image('team/never:v1'))
    expect(unknown).toMatch(store === 'classic' ? /repository name not known/ : /: not found/)
  })

  it('makes a list of manifests, whose images come from several repositories', async () => {
    const user = await member(store)
    const parts = ['one', 'two'].map((name) => image(`team/${name}:${store}`))
    for (const part of parts) {
      await buildWith('0', user, part, '--label', `part=${part}`)
      await user.docker('push', part)
    }
    const list = image(`team/list:${store}`)
    await user.docker('manifest create --insecure', list, ...parts)
    await user.docker('manifest annotate --variant v2', list, parts[1] ?? '')
    const pushed = await user.docker('manifest push --insecure --purge', list)
    const digest = await digestIn(list)
    expect(pushed.trim().split('\n').at(-1)).toBe(digest)
    const { manifests } = JSON.parse(await user.docker('manifest inspect --insecure', list))
    const digests = await Promise.all(parts.map(digestIn))
    expect(new Set(manifests.map((one: { digest: string }) => one.digest))).toEqual(
      new Set(digests),
    )
    expect(await user.docker('pull', list)).toContain(digest)
  })

  it('has no container of a unikernel image, and the containerd store copies one', async () => {
    const user = await member(store)
    const [from, to] = ['unikernel', 'copied'].map((name) => image(`team/${name}-${store}:v1`))
    const type = ['--artifact-type', 'application/vnd.unikernel.v1']
    const kernel = `bin/${KERNEL}:application/vnd.unikernel.kernel.v1`
    await sandbox.orasAsAdmin(['push', ...type, from ?? '', kernel], BUILD)
    if (store === 'classic') {
      expect(await user.refused('pull', from ?? '')).toContain(documented('classic image store'))
      return
    }
    await user.docker('pull', from ?? '')
    expect(await user.refused('run', from ?? '')).toContain(documented('`docker run`'))
    await writeFile(join(sandbox.folder, 'Dockerfile'), `FROM ${from}\n`)
    const script = 'docker build - < Dockerfile'
    const built = await user.execute('sh', ['-c', script])
    expect(built.stderr).toContain(documented('`FROM`'))
    await user.docker('tag', from ?? '', to ?? '')
    await user.docker('push', to ?? '')
    expect(await digestIn(to ?? '')).toBe(await digestIn(from ?? ''))
  })

  it('compose builds, pushes and pulls the images of its services', async () => {
    const user = await member(store)
    const folder = join(sandbox.folder, `compose-${store}`)
    const services = Object.fromEntries(
      ['www', 'dns'].map((name) => [
        name,
        { image: image(`team/${name}:compose-${store}`), build: `../${CONTEXT}` },
      ]),
    )
    await mkdir(folder)
    await writeFile(join(folder, 'compose.yaml'), JSON.stringify({ services }))
    for (const words of ['build', 'push', 'pull', 'config --images']) {
      const ran = await user.execute('docker', ['compose', ...words.split(' ')], folder)
      expect(ran, ran.stderr).toMatchObject({ status: 0 })
    }
    for (const { image: tag } of Object.values(services)) {
      expect(await digestIn(tag)).toMatch(/^sha256:/)
      expect(await idOf(user, tag)).not.toBe('')
    }
  })
}

function describeEndedLogins(store: ImageStore): void {
  const closed = (tag: string) => image(`team/fleet-${store}:${tag}`)
  let user: DockerUser

  it('that has ended still pulls what is public, and otherwise says where to log in again', async () => {
    user = await member(store, 'fleet')
    const open = image(`team/public:${store}`)
    for (const tag of [open, closed('v1')]) {
      await nameImage(user, tag)
      await user.docker('push', tag)
    }
    await makePrivate(sandbox, `team/fleet-${store}`)
    await user.docker('pull', closed('v1'))

    const body = { overlapSeconds: 0 }
    const rotated = await sandbox.api('POST', `credentials/${ci.name}/rotate-secret`, body)
    const fresh = (await rotated.json()) as Secret
    const words = `the refresh token has expired: log in to ${sandbox.host} again`
    const pull = () => user.run('pull', closed('v1'))
    await expect.poll(async () => (await pull()).stderr, ENDED).toContain(words)
    await nameImage(user, closed('v2'))
    expect(await user.refused('push', closed('v2'))).toContain(words)
    await user.docker('pull', open)
    const again = await user.login(ci.name, ci.secret)
    expect(again.stderr).toContain(`log in to ${sandbox.host} again`)
    ci = fresh
  })

  it('that has ended locks nobody behind the same address out, and a new login mends it', async () => {
    for (let push = 0; push < PUSHES; push += 1) await user.refused('push', closed('v2'))
    const neighbour = await on(store, 'neighbour')
    expect(await neighbour.login('admin', PASSWORD)).toMatchObject({ status: 0 })
    await neighbour.docker('pull', closed('v1'))
    expect(await user.login(ci.name, ci.secret)).toMatchObject({ status: 0 })
    await user.docker('push', closed('v2'))
    await user.docker('pull', closed('v1'))
  })

  it('of a revoked credential says so', async () => {
    const { name: gone, secret } = await makeCredential(sandbox, `gone-${store}`, 'team/**')
    user = await on(store, 'gone')
    expect(await user.login(gone, secret)).toMatchObject({ status: 0 })
    await user.docker('pull', closed('v1'))
    await sandbox.api('DELETE', `credentials/${gone}`)
    const words = `the credential was revoked: log in to ${sandbox.host} again`
    const pull = () => user.run('pull', closed('v1'))
    await expect.poll(async () => (await pull()).stderr, ENDED).toContain(words)
  })
}

function describeTls(store: ImageStore): void {
  it('trusts an authority that is in the folder of the host, or that the system trusts', async () => {
    const user = await on(store, 'tls')
    // The containerd store reads that folder, but not for its requests to /token.
    if (store === 'classic') {
      const refused = await user.login(ci.name, ci.secret, tls.host)
      expect(refused.stderr).toContain('x509: certificate signed by unknown authority')
      const folder = daemons.get(store)?.etc('docker/certs.d', tls.host) ?? ''
      await mkdir(folder, { recursive: true })
      await copyFile(tls.nginx.path('fullchain.pem'), join(folder, 'ca.crt'))
    }
    expect(await user.login(ci.name, ci.secret, tls.host)).toMatchObject({ status: 0 })
    const tag = `${tls.host}/team/tls:${store}`
    await nameImage(user, tag)
    await user.docker('push', tag)
    await user.docker('pull', tag)
  })

  it('compose publishes an application, and reads it back', async () => {
    const user = await member(store)
    const folder = join(sandbox.folder, `published-${store}`)
    const services = { www: { image: image(`team/www:compose-${store}`) } }
    await mkdir(folder)
    await writeFile(join(folder, 'compose.yaml'), JSON.stringify({ services }))
    expect(await user.login(ci.name, ci.secret, tls.host)).toMatchObject({ status: 0 })
    const compose = (...words: string[]) => {
      const trust = `SSL_CERT_FILE=${tls.nginx.path('fullchain.pem')}`
      return user.execute('env', [trust, 'docker', 'compose', ...words], folder)
    }
    const application = `${tls.host}/team/application:${store}`
    const published = await compose('publish', '--yes', application)
    expect(published, published.stderr).toMatchObject({ status: 0 })
    const read = await compose('--file', `oci://${application}`, 'config', '--images')
    expect(read.stdout.trim(), read.stderr).toBe(services.www.image)
  })
}

/** Starts nginx with TLS for `localhost` before the registry. */
async function startTls(): Promise<typeof tls> {
  const [port = 0] = await freePorts(1)
  const host = `localhost:${port}`
  const nginx = await startNginx(
    sandbox,
    (path) => `server {
      listen 127.0.0.1:${port} ssl;
      ssl_certificate ${path('fullchain.pem')};
      ssl_certificate_key ${path('privkey.pem')};
      client_max_body_size 0;
      proxy_request_buffering off;
      proxy_http_version 1.1;
      location / {
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_pass http://${sandbox.host};
      }
    }`,
  )
  const patiently = ['--retry', '20', '--retry-connrefused', '--retry-delay', '1']
  await sandbox.curl([...nginx.trust, ...patiently, `https://${host}/healthz`])
  return { nginx, host }
}

/** Returns the message in the row of docs/clients.md about this. */
function documented(what: string): string {
  const row = PAGE.split('\n').find((line) => line.startsWith('| ') && line.includes(what))
  return /\| `([^`]+)` \|$/.exec(row ?? '')?.[1] ?? `no row about ${what}`
}

/** Builds with BuildKit ('1'), or with the builder before it. */
async function buildWith(
  builder: '0' | '1',
  user: DockerUser,
  tag: string,
  ...more: string[]
): Promise<void> {
  const words = ['docker', 'build', '--quiet', '--tag', tag, ...more, CONTEXT]
  const built = await user.execute('env', [`DOCKER_BUILDKIT=${builder}`, ...words])
  expect(built, built.stderr).toMatchObject({ status: 0 })
}

async function idOf(user: DockerUser, name: string): Promise<string> {
  return (await user.docker('image inspect --format {{.Id}}', name)).trim()
}

/** Returns the kernel in an image: docker copies it out of a container that never runs. */
async function kernelOf(user: DockerUser, name: string): Promise<Buffer> {
  const container = (await user.docker('create', name, 'never')).trim()
  const to = join(sandbox.folder, 'copied')
  await user.docker('cp', `${container}:/${KERNEL}`, to)
  await user.docker('rm', container)
  return readFile(to)
}
