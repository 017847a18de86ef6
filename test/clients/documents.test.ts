import { existsSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROOT } from '../house/tree.ts'
import { freePorts } from '../support/free-ports.ts'
import { ClientSandbox, hasClient, PASSWORD } from './client-sandbox.ts'

const MAIN = join(ROOT, 'dist/main.js')
const KERNEL = join(ROOT, 'test/fixtures/builds/hello-key-1/bin/hello-key.hvt')
const OUTPUT_BYTES_MAX = 8_000

let sandbox: ClientSandbox
let listen: string

beforeAll(async () => {
  const [port] = await freePorts(1)
  listen = `127.0.0.1:${port}`
  sandbox = await ClientSandbox.open({ ROOKERY_LISTEN: listen })
})

afterAll(() => sandbox?.close())

/** Returns the `sh` blocks of a document, without those that install or start the server. */
async function blocksOf(path: string): Promise<string[]> {
  const text = await readFile(join(ROOT, path), 'utf8')
  return [...text.matchAll(/```sh\n([\s\S]*?)```/g)]
    .map(([, block]) => block ?? '')
    .filter((block) => !/^npm (?:install|start)/m.test(block))
}

async function digestOfTag(tag: string): Promise<string | null> {
  const answer = await fetch(`http://${sandbox.host}/v2/hello/key/manifests/${tag}`)
  return answer.headers.get('docker-content-digest')
}

/** Pastes blocks into one shell in the folder of the repository, and returns the output of each. */
async function paste(blocks: readonly string[]): Promise<string[]> {
  const END = '=== end of a block ==='
  for (const name of ['pulled', 'hello-key']) {
    await rm(join(sandbox.folder, name), { recursive: true, force: true })
  }
  const script = blocks
    .map((block) => `${block}\necho '${END}'`)
    .join('\n')
    .replaceAll('127.0.0.1:5000', sandbox.host)
    .replaceAll('/tmp/', `${sandbox.folder}/`)
    .replaceAll('-fLo hello-key.hvt', `-fLo ${sandbox.folder}/hello-key.hvt`)
    .replaceAll('-o pulled', `-o ${sandbox.folder}/pulled`)
  const server = {
    ROOKERY_DATA_DIR: join(sandbox.folder, 'data'),
    ROOKERY_ADMIN_PASSWORD: PASSWORD,
    ROOKERY_LISTEN: listen,
  }
  const exports = Object.entries(server).map(([name, value]) => `export ${name}='${value}'`)
  const rookery = `npx() { shift; node '${MAIN}' "$@"; }`
  const printed = await sandbox.succeed(
    'bash',
    ['-euc', [...exports, rookery, script].join('\n')],
    ROOT,
  )
  return printed.split(`${END}\n`).slice(0, -1)
}

describe('the README can be pasted', () => {
  it('block by block, and prints little', async () => {
    const blocks = await blocksOf('README.md')
    expect(blocks).toHaveLength(2)
    const [pushed = '', followed = ''] = await paste(blocks)
    expect(pushed).toContain('hvt')
    expect(await readFile(join(sandbox.folder, 'hello-key.hvt'))).toEqual(await readFile(KERNEL))
    expect(followed).toContain('hello/key')
    for (const printed of [pushed, followed]) expect(printed.length).toBeLessThan(OUTPUT_BYTES_MAX)
  })
})

describe.runIf(hasClient('oras'))('docs/push.md can be pasted', () => {
  it('block by block, and prints little', async () => {
    const blocks = await blocksOf('docs/push.md')
    expect(blocks).toHaveLength(5)
    const printed = await paste(blocks)
    expect(printed.at(-1)).toContain('hello/key')
    for (const text of printed) expect(text.length).toBeLessThan(OUTPUT_BYTES_MAX)
    expect(existsSync(join(sandbox.folder, 'pulled/opam-switch'))).toBe(true)
    const image = JSON.parse(await readFile(join(sandbox.folder, 'live.json'), 'utf8'))
    const sent = JSON.parse(await readFile(join(sandbox.folder, 'hello-key.json'), 'utf8'))
    expect(image.digest).toBe(sent.digest)
    expect(image.inputId).toMatch(/^[0-9a-f]{64}$/)
  })

  it('and all of its ways, and that of the README, make the same image', async () => {
    await paste((await blocksOf('README.md')).slice(0, 1))
    const readme = await digestOfTag('live')
    const [, pushed = '', ...others] = await paste(await blocksOf('docs/push.md'))
    expect(others).toHaveLength(3)
    expect(pushed).toMatch(new RegExp(`^digest +${readme}$`, 'm'))
    const sent = JSON.parse(await readFile(join(sandbox.folder, 'hello-key.json'), 'utf8'))
    expect([sent.digest, await digestOfTag('latest')]).toEqual([readme, readme])
  })
})
