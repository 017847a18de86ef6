import { existsSync } from 'node:fs'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Spec, Validation } from '@cyclonedx/cyclonedx-library'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { shellBlocksOf } from '../documents/pages.ts'
import { ROOT, readPage } from '../house/tree.ts'
import { copyProject, type Place, succeed } from '../install/project-copy.ts'
import { makeBaseRoot } from './base-image.ts'
import { ClientSandbox, hasClient, PASSWORD } from './client-sandbox.ts'
import { prepareContainerTools } from './container-tools.ts'
import { type DockerDaemon, DockerUser, hasDocker, startDocker } from './docker-daemon.ts'

const PAGE = 'docs/install.md'
const { version } = JSON.parse(readPage('package.json'))
const ARCHITECTURE = process.arch === 'x64' ? 'amd64' : process.arch
const NAME = `rookery-image-${version}-${ARCHITECTURE}`
const LTS = join(
  ROOT,
  `.cache/node-lts/node_modules/node-${process.platform}-${process.arch}/bin/node`,
)
const BASE = 'localhost/base:latest'
/** Compressed, without the base: the embedded Postgres is more than half of it. */
const LAYERS_BYTES_MAX = 45_000_000
const UID = 10001
const UMASKS = { first: '022', second: '077' } as const

const isHere = hasDocker() && (['buildah', 'skopeo', 'oras'] as const).map(hasClient).every(Boolean)

type Layer = { readonly digest: string; readonly size: number }

describe.skipIf(!isHere)('the container image', () => {
  let sandbox: ClientSandbox
  let clone: Place
  let layers: Layer[]
  /** The configuration that docker and podman read. */
  let config: {
    config: Record<string, unknown> & { Labels: Record<string, string> }
    created: string
  }

  const path = (...parts: string[]) => join(sandbox.folder, ...parts)
  const archive = (build: keyof typeof UMASKS, ending = 'tar') => path(build, `${NAME}.${ending}`)
  const blob = (digest: string) => path('layout/blobs/sha256', digest.replace('sha256:', ''))
  const json = async (file: string) => JSON.parse(await readFile(file, 'utf8'))

  /** Builds the image in a copy of the clone, under an umask. */
  async function build(name: keyof typeof UMASKS, cwd: string): Promise<void> {
    const line = `node scripts/build-image.mjs --base ${BASE} '${path(name)}'`
    await succeed({ ...clone, cwd }, `umask ${UMASKS[name]} && ${line}`)
  }

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    await prepareContainerTools(sandbox)
    await makeBaseRoot(path('base/root'), existsSync(LTS) ? LTS : process.execPath)
    await writeFile(
      path('base/Containerfile'),
      'FROM scratch\nCOPY root /\nENV PATH=/usr/local/bin:/usr/bin\n',
    )
    await sandbox.succeed('buildah', [
      'build',
      '--quiet',
      '--timestamp',
      '0',
      '--tag',
      BASE,
      'base',
    ])
    clone = { cwd: path('clone'), home: sandbox.home, env: sandbox.variables }
    await mkdir(clone.cwd)
    await copyProject(clone.cwd)
    await symlink(join(ROOT, 'node_modules'), path('clone/node_modules'))
    await build('first', clone.cwd)
    await mkdir(path('layout'))
    await succeed(clone, `tar -xf ${archive('first')} -C ${path('layout')}`)
    const index = await json(path('layout/index.json'))
    const manifest = await json(blob(index.manifests[0].digest))
    layers = manifest.layers
    config = await json(blob(manifest.config.digest))
  }, 240_000)

  afterAll(async () => {
    await sandbox?.close()
  })

  it('has the same bytes in another folder, under another umask and later', async () => {
    const cwd = path('a clone with another name')
    await succeed(clone, `git clone -q . '${cwd}'`)
    await symlink(join(ROOT, 'node_modules'), join(cwd, 'node_modules'))
    await build('second', cwd)
    for (const ending of ['tar', 'cdx.json']) {
      await succeed(clone, `cmp ${archive('first', ending)} ${archive('second', ending)}`)
    }
  })

  it('says what it is, and how it is run and checked', async () => {
    const commit = (await succeed(clone, 'git rev-parse HEAD')).trim()
    const seconds = Number(await succeed(clone, 'git log -1 --format=%ct'))
    const label = (name: string) => config.config.Labels[`org.opencontainers.image.${name}`]
    expect(label('title')).toBe('Rookery')
    expect(label('description')).toBe(JSON.parse(readPage('package.json')).description)
    expect(label('licenses')).toBe(JSON.parse(readPage('package.json')).license)
    expect(label('version')).toBe(version)
    expect(label('revision')).toBe(commit)
    expect(label('base.name')).toBe(BASE)
    expect(label('documentation')).toMatch(/^file:\/\/\/opt\/rookery\/docs\//)
    expect(new Date(label('created') ?? '').getTime()).toBe(seconds * 1000)
    expect(new Date(config.created).getTime()).toBe(seconds * 1000)
    expect(config.config).toMatchObject({
      User: `${UID}:${UID}`,
      Entrypoint: ['rookery'],
      Cmd: ['serve'],
      ExposedPorts: { '5000/tcp': {} },
      Volumes: { '/var/lib/rookery': {} },
      StopSignal: 'SIGTERM',
      Healthcheck: { Test: ['CMD', 'rookery', 'healthcheck'] },
    })
  })

  it('has layers of root that are small, without caches, secrets and programs that change the user', async () => {
    const [base, ...added] = layers
    expect(base).toBeDefined()
    expect(added.reduce((sum, { size }) => sum + size, 0)).toBeLessThan(LAYERS_BYTES_MAX)
    let files = 0
    for (const { digest } of added) {
      const list = await succeed(clone, `tar -tvzf ${blob(digest)} --numeric-owner --full-time`)
      for (const line of list.trim().split('\n')) {
        const [mode = '', owner, , , , name = ''] = line.split(/\s+/)
        files += 1
        expect(name).toMatch(
          /^(?:etc\/(?:passwd|group)?|run\/|opt\/(?:rookery\/.*)?|var\/(?:lib\/(?:rookery\/)?)?)$/,
        )
        expect(name).not.toMatch(/\.npmrc|\.cache|_cacache|_logs/)
        expect(owner, name).toBe(name === 'var/lib/rookery/' ? `${UID}/${UID}` : '0/0')
        expect(mode, name).toMatch(/^(?:l|-rw-r--r--|[-d]rwxr-xr-x)/)
      }
    }
    expect(files).toBeGreaterThan(1000)
  })

  it('has a bill of materials of its packages, of Node, and of the packages of its base', async () => {
    const text = await readFile(archive('first', 'cdx.json'), 'utf8')
    expect(await new Validation.JsonStrictValidator(Spec.Version.v1dot6).validate(text)).toBeNull()
    const { components } = JSON.parse(text) as {
      components: { purl: string; hashes?: unknown[] }[]
    }
    const purls = components.map(({ purl }) => purl)
    const { dependencies } = JSON.parse(readPage('package.json'))
    for (const [name, exact] of Object.entries(dependencies)) {
      expect(purls).toContain(`pkg:npm/${name.replace('@', '%40')}@${exact}`)
    }
    const node = await succeed(clone, `${existsSync(LTS) ? LTS : process.execPath} --version`)
    expect(purls).toContain(`pkg:generic/node@${node.trim().slice(1)}`)
    expect(purls.filter((purl) => /^pkg:deb\/debian\/(?:libc6|dash)@/.test(purl))).toHaveLength(2)
    const ofNpm = components.filter(({ purl }) => purl.startsWith('pkg:npm/'))
    expect(ofNpm.filter(({ hashes }) => hashes?.length !== 1)).toEqual([])
    const inside = await succeed(
      clone,
      `for digest in ${layers.map(({ digest }) => blob(digest)).join(' ')}; do tar -xzOf $digest opt/rookery/sbom.cdx.json 2>/dev/null; done; true`,
    )
    expect(inside).toBe(text)
  })

  it('is pushed to Rookery with its bill of materials, and pulled with the same digest', async () => {
    const image = `${sandbox.host}/rookery/rookery:${version}`
    const { manifests } = await json(path('layout/index.json'))
    const plain = ['--dest-tls-verify=false', '--dest-creds', `admin:${PASSWORD}`]
    await sandbox.succeed('skopeo', [
      'copy',
      ...plain,
      `oci-archive:${archive('first')}`,
      `docker://${image}`,
    ])
    const inspect = [
      'inspect',
      '--tls-verify=false',
      '--format',
      '{{.Digest}}',
      `docker://${image}`,
    ]
    expect((await sandbox.succeed('skopeo', inspect)).trim()).toBe(manifests[0].digest)
    const back = ['copy', '--preserve-digests', '--src-tls-verify=false', `docker://${image}`]
    await sandbox.succeed('skopeo', [...back, `oci:${path('pulled')}:v1`])
    expect((await json(path('pulled/index.json'))).manifests[0].digest).toBe(manifests[0].digest)
    const type = ['--artifact-type', 'application/vnd.cyclonedx+json']
    const file = `${NAME}.cdx.json:application/vnd.cyclonedx+json`
    await sandbox.orasAsAdmin(['attach', ...type, image, file], path('first'))
    const found = await sandbox.orasAsAdmin(['discover', '--format', 'json', ...type, image])
    expect(JSON.parse(found).referrers ?? JSON.parse(found).manifests).toHaveLength(1)
  })

  describe('in docker, without the right to write to its files', () => {
    let daemon: DockerDaemon
    let user: DockerUser

    const sections = (section: string) =>
      shellBlocksOf(PAGE)
        .filter((block) => block.section === section)
        .map(({ text }) => text)
        .join('')

    /** Runs lines in the clone as the operator, who has the image of the archive, too. */
    const inClone = (lines: string) => {
      const env = { ...clone.env, ...user.environment, ROOKERY_IMAGE: `rookery:${version}` }
      return succeed({ ...clone, env }, `set -e\n${lines}`)
    }

    /** Pastes a section of the page in the clone, with the base of the test. */
    const paste = (section: string) =>
      inClone(sections(section).replace(/^BASE=\S+$/m, `BASE=${BASE}`))

    /** Runs a command in the network of the daemon, where the registry publishes its port. */
    async function ask(...words: string[]): Promise<string> {
      const [command = '', ...rest] = [...(await daemon.inNetwork()), ...words]
      const ran = await user.execute(command, rest)
      expect(ran, ran.stderr).toMatchObject({ status: 0 })
      return ran.stdout
    }

    beforeAll(async () => {
      daemon = await startDocker(sandbox, 'classic', { hasNetwork: true })
      user = await DockerUser.open(sandbox, daemon, 'operator')
      const target = `docker-archive:${path('base.tar')}:${BASE}`
      await sandbox.succeed('buildah', ['push', '--quiet', BASE, target])
      await user.docker('load --input', path('base.tar'))
    })

    afterAll(async () => {
      await daemon?.stop()
    })

    it('is loaded from its archive, and runs any command', async () => {
      expect(await user.docker('load --input', archive('first'))).toContain(`rookery:${version}`)
      const inspect = 'image inspect --format {{.Config.Healthcheck.Test}}'
      expect(await user.docker(inspect, `rookery:${version}`)).toContain('healthcheck')
      expect(await user.docker('run --rm', `rookery:${version}`, '--version')).toBe(`${version}\n`)
    })

    it('is built and serves as the page says, and keeps its data', async () => {
      await paste('A container')
      const address = 'http://127.0.0.1:5000'
      expect(await ask('curl', '-fsS', `${address}/readyz`)).toContain('ok')
      const password = (await user.docker('exec registry cat admin-password')).trim()
      const login = `printf %s '${password}' | docker login --username admin --password-stdin 127.0.0.1:5000`
      await ask('sh', '-c', login)
      const image = '127.0.0.1:5000/rookery/rookery:v1'
      await user.docker('tag rookery', image)
      const pushed = await user.docker('push', image)
      const [digest] = /(?<=digest: )sha256:\w+/.exec(pushed) ?? []
      await user.docker('exec registry rookery backup --to /tmp/backup')
      const nobody = 'exec --env ROOKERY_LISTEN=127.0.0.1:1 registry rookery healthcheck'
      expect(await user.run(nobody)).toMatchObject({ status: 1, stdout: '' })
      const other = '--user 1234 --env ROOKERY_LISTEN=127.0.0.1:0 --env ROOKERY_DATA_DIR=/tmp/other'
      const refused = await user.run(`exec ${other} registry rookery serve`)
      expect(refused.stderr).toMatch(/uid 1234 has no entry in \/etc\/passwd/)
      expect(refused.status).toBe(1)
      await user.docker('stop registry')
      expect(await user.docker('inspect --format {{.State.ExitCode}} registry')).toBe('0\n')
      await user.docker('start registry')
      const state = 'inspect --format {{.State.Health.Status}} registry'
      await expect.poll(() => user.docker(state), { timeout: 60_000 }).toBe('healthy\n')
      await user.docker('rmi', image)
      expect(digest).toBeDefined()
      expect(await user.docker('pull', image)).toContain(digest)
      await user.docker('rm --force --volumes registry')
      await user.docker('volume rm rookery')
    })

    it('is started by compose as the page says, also with a Postgres and an S3 store', async () => {
      await paste('Compose')
      expect(await ask('curl', '-fsS', 'http://127.0.0.1:5000/readyz')).toContain('ok')
      const compose = (words: string) => inClone(`docker compose ${words}`)
      expect(await compose('--file deploy/compose.yaml ps --format {{.Health}}')).toBe('healthy\n')
      await compose('--file deploy/compose.yaml down --volumes')
      // The registries of their images are out of reach: this checks the file, and what Rookery gets.
      const files = '--file deploy/compose.yaml --file deploy/compose.postgres-s3.yaml'
      const { services } = JSON.parse(await compose(`${files} config --format json`))
      const { environment, depends_on: needs } = services.registry
      expect(Object.keys(needs).sort()).toEqual(['postgres', 'store'])
      const { databaseUrl = '', s3 } = parseConfig(environment)
      const url = new URL(databaseUrl)
      expect(url.hostname).toBe('postgres')
      expect(url.password).toBe(services.postgres.environment.POSTGRES_PASSWORD)
      expect(environment.ROOKERY_S3_ENDPOINT).toBe('http://store:7070')
      expect(s3?.pathStyle).toBe(true)
      expect(environment.AWS_SECRET_ACCESS_KEY).toBe(services.store.environment.ROOT_SECRET_KEY)
      expect(environment.AWS_SECRET_ACCESS_KEY).toMatch(/^\w{48}$/)
    })
  })
})
