import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmod,
  chown,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { init, parse } from 'es-module-lexer'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ROOT } from '../house/tree.ts'

const AS_ROOT = process.getuid?.() === 0
const OTHER_USER = 1

let folder: string

/** A project with the real build and two sources. */
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-build-'))
  await chmod(folder, 0o755)
  for (const path of ['package.json', 'scripts/build.mjs']) {
    await cp(join(ROOT, path), join(folder, path))
  }
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  await mkdir(join(folder, 'src/other'), { recursive: true })
  await source('main.ts', "import { n } from './other/n.ts'\nconsole.log(n as number)\n")
  await source('other/n.ts', 'export const n: number = 1\n')
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const source = (path: string, text: string) => writeFile(join(folder, 'src', path), text)
const identityOf = async (path: string) => (await stat(join(folder, path))).ino

async function runNode(words: readonly string[], identity: { uid?: number; gid?: number } = {}) {
  const child = spawn(process.execPath, [...words], { cwd: '/', ...identity })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk) => {
      output[name] += chunk
    })
  }
  const [status] = await once(child, 'close')
  return { status, ...output }
}

const build = (identity = {}, before: string[] = []) =>
  runNode([...before, join(folder, 'scripts/build.mjs')], identity)
const BUILT = { status: 0, stdout: '', stderr: '' }
const notWritable = (path: string) => ({
  status: 2,
  stdout: '',
  stderr: expect.stringMatching(
    `^rookery: dist is missing or older than src, and this user may not write to ${join(folder, path)}[^ ]*; as the owner of ${folder}, run: npm run build\n$`,
  ),
})
const result = async () => (await runNode([join(folder, 'dist/main.js')])).stdout.trim()

describe('the build', () => {
  it('makes a dist that runs, and leaves one that is up to date', async () => {
    expect(await build()).toEqual(BUILT)
    expect(await result()).toBe('1')
    const first = await identityOf('dist/other/n.js')
    expect(await build()).toEqual(BUILT)
    expect(await identityOf('dist/other/n.js')).toBe(first)
  })

  it('makes dist again after any change, also by a file with an old time', async () => {
    await build()
    await source('other/n.ts', 'export const n: number = 2\n')
    await utimes(join(folder, 'src/other/n.ts'), 1, 1)
    await build()
    expect(await result()).toBe('2')
    await source('main.ts', 'console.log(3)\n')
    await rm(join(folder, 'src/other/n.ts'))
    await build()
    expect(await result()).toBe('3')
    expect((await readdir(join(folder, 'dist'))).sort()).toEqual(['main.js', 'sources.sha256'])
    await rm(join(folder, 'dist'), { recursive: true })
    await build()
    expect(await result()).toBe('3')
  })

  it('may run several times at once, and leaves nothing else behind', async () => {
    const builds = await Promise.all([build(), build(), build()])
    expect(builds).toEqual([BUILT, BUILT, BUILT])
    expect(await result()).toBe('1')
    expect(await readdir(join(folder, '.cache'))).toEqual([])
  })

  it('does nothing in the npm package, which has no sources', async () => {
    await build()
    await rm(join(folder, 'src'), { recursive: true })
    await rm(join(folder, 'node_modules'))
    expect(await build()).toEqual(BUILT)
    expect(await result()).toBe('1')
  })
})

describe('the build ends with one line', () => {
  it('when the packages are not installed', async () => {
    await rm(join(folder, 'node_modules'))
    const { status, stderr } = await build()
    expect(status).toBe(2)
    expect(stderr).toBe(
      'rookery: its packages are not installed, or only older ones; run: npm ci\n',
    )
  })

  it('on an old Node: the same that rookery prints', async () => {
    const pretend = join(folder, 'old.cjs')
    for (const version of ['12.22.12', '18.20.8', '20.18.3']) {
      await writeFile(
        pretend,
        `Object.defineProperty(process.versions, 'node', { value: '${version}' })`,
      )
      const { status, stderr } = await build({}, ['-r', pretend])
      expect(status).toBe(2)
      const launcher = await runNode(['-r', pretend, join(ROOT, 'dist/main.js')])
      expect(stderr).toBe(launcher.stderr)
    }
    const text = await readFile(join(ROOT, 'scripts/build.mjs'), 'utf8')
    expect(text).not.toMatch(/\?\.\w|\?\?|#\w+\(|^await|^ {0,2}await .* = /m)
  })

  it.skipIf(!AS_ROOT)('when dist is old and the user may not write', async () => {
    await build()
    const user = { uid: OTHER_USER, gid: OTHER_USER }
    expect(await build(user)).toEqual(BUILT)
    await source('main.ts', 'console.log(3)\n')
    expect(await build(user)).toEqual(notWritable('.cache/build-'))
    expect(await result()).toBe('1')
    for (const path of ['', '.cache']) await chown(join(folder, path), OTHER_USER, OTHER_USER)
    expect(await build(user)).toEqual(notWritable('dist'))
    expect(await result()).toBe('1')
    expect(await readdir(join(folder, '.cache'))).toEqual([])
    for (const path of ['dist', 'dist/other']) {
      await chown(join(folder, path), OTHER_USER, OTHER_USER)
    }
    expect(await build(user)).toEqual(BUILT)
    expect(await result()).toBe('3')
  })

  it('when a source cannot be compiled: it names the file and the line', async () => {
    await source('other/n.ts', '\nenum Colour { red }\n')
    const { status, stderr } = await build()
    expect(status).toBe(2)
    expect(stderr).toMatch(/^rookery: src\/other\/n\.ts:2: .*\n/)
    expect(await readdir(folder)).not.toContain('dist')
  })
})

describe('the built rookery', () => {
  it('has each line of its source, and imports the built files only', async () => {
    await init
    const paths = await readdir(join(ROOT, 'dist'), { recursive: true })
    const built = paths.filter((path) => path.endsWith('.js'))
    const sources = await readdir(join(ROOT, 'src'), { recursive: true })
    const builtFrom = new Map(
      sources
        .filter((path) => /\.tsx?$/.test(path))
        .map((path) => [path.replace(/tsx?$/, 'js'), path]),
    )
    expect(built.toSorted()).toEqual([...builtFrom.keys()].sort())
    for (const path of built) {
      const text = await readFile(join(ROOT, 'dist', path), 'utf8')
      const typed = await readFile(join(ROOT, 'src', builtFrom.get(path) ?? ''), 'utf8')
      expect(text.split('\n').length, path).toBe(typed.split('\n').length)
      for (const { n: name } of parse(text)[0]) {
        if (name?.startsWith('.')) expect(built).toContain(join(path, '..', name))
      }
    }
  })
})
