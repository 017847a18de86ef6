import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { ROOT } from '../house/tree.ts'

const PATH = `${dirname(process.execPath)}:/usr/bin:/bin`
let clone: string

beforeEach(async () => {
  clone = await mkdtemp(join(tmpdir(), 'a clone '))
  await mkdir(join(clone, 'bin'))
  await copyFile(join(ROOT, 'bin/rookery'), join(clone, 'bin/rookery'))
})

afterEach(() => rm(clone, { recursive: true, force: true }))

/** Runs `rookery` by its name, in another folder, with a folder on PATH. */
function run(folder: string, ...words: string[]) {
  const env = { PATH: `${folder}:${PATH}` }
  return promisify(execFile)('rookery', words, { cwd: '/', env })
}

it('the command of a clone runs from any folder, also by a link', async () => {
  await mkdir(join(clone, 'dist'))
  await writeFile(join(clone, 'package.json'), '{ "type": "module" }')
  await writeFile(join(clone, 'dist/main.js'), 'console.log(process.argv.slice(2).join())')
  expect((await run(join(clone, 'bin'), 'push', 'a b')).stdout).toBe('push,a b\n')
  await mkdir(join(clone, 'links'))
  await symlink('../bin/rookery', join(clone, 'links/rookery'))
  expect((await run(join(clone, 'links'), 'push', 'a b')).stdout).toBe('push,a b\n')
})

it('a clone that is not built says how to build it', async () => {
  const failed = await run(join(clone, 'bin'), '--version').catch((error) => error)
  expect(failed).toMatchObject({ code: 2, stdout: '' })
  expect(failed.stderr).toBe(
    `rookery: ${clone}/dist/main.js is missing: run npm ci && npm run build in ${clone}\n`,
  )
})

it('the built command names the version of the clone', async () => {
  const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'))
  expect((await run(join(ROOT, 'bin'), '--version')).stdout).toContain(version)
})

it('npm start -- --help shows the help of the server, and starts none', async () => {
  // Without scripts: other tests run what is built.
  const words = ['start', '--silent', '--ignore-scripts', '--', '--help']
  const { stdout, stderr } = await promisify(execFile)('npm', words, { cwd: ROOT })
  expect(stdout).toMatch(/^Usage: rookery serve /)
  expect(stderr).toBe('')
})
