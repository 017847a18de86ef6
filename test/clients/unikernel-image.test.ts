import { cp, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { BUILD, ClientSandbox, ELF, hasClient, PASSWORD } from './client-sandbox.ts'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const SPEC = new URL('../../spec/unikernel-image.md', import.meta.url)
const LARGE_BYTES = 256 * 1024 * 1024
const GROWTH_KIBIBYTES_MAX = 128 * 1024

let sandbox: ClientSandbox
let folder: string
let ways: string[]

beforeAll(async () => {
  sandbox = await ClientSandbox.open()
  folder = join(sandbox.folder, 'build')
  await cp(BUILD, folder, { recursive: true })
  const spec = await readFile(SPEC, 'utf8')
  ways = [...spec.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => block ?? '')
})

afterAll(() => sandbox?.close())

/** Pastes a block of the specification, for this host and another repository. */
async function paste(block: string | undefined, repository: string): Promise<string> {
  const plain = (block ?? '')
    .replaceAll('https://', 'http://')
    .replaceAll('hello/key', repository)
    .replaceAll('token:$TOKEN', `admin:${PASSWORD}`)
    .replaceAll(
      'rookery push',
      `printf %s '${PASSWORD}' | node '${MAIN}' push --username admin --password-stdin`,
    )
    .replaceAll('oras push', `oras push --plain-http -u admin -p '${PASSWORD}'`)
  const script = `set -eu\nHOST=${sandbox.host}\n${plain}`
  return sandbox.succeed('bash', ['-c', script], folder)
}

async function facts(repository: string) {
  const address = `http://${sandbox.host}/api/v1/repositories/${repository}/images/live`
  return JSON.parse(await sandbox.curl(['-u', sandbox.credential, address]))
}

describe('the specification can be pasted', () => {
  it('has five blocks: rookery, oras, one request, plain curl, and the host', () => {
    expect(ways.length).toBe(5)
  })

  it.runIf(hasClient('oras'))('and all four ways make the same image', async () => {
    const images = []
    for (const [way, repository] of ['by/rookery', 'by/oras', 'by/form', 'by/steps'].entries()) {
      await paste(ways[way], repository)
      const { pushedAt: _at, repository: _name, ...rest } = await facts(repository)
      images.push(rest)
    }
    expect(images[0]).toMatchObject({
      inputId: 'd9f3ed4f3b71237666fc6b1285d9fed7d7a2eead9df0e78262ab32ff1e4f0474',
      target: 'hvt',
    })
    expect(images[1]).toEqual(images[0])
    expect(images[2]).toEqual(images[0])
    expect(images[3]).toEqual(images[0])
  })

  it('and a host gets its kernel', async () => {
    await paste(ways[2], 'for/host')
    const host = (ways[4] ?? '').replace('-fLo hello-key.hvt', '-fsSLo got.hvt')
    await paste(host, 'for/host')
    const got = await readFile(join(folder, 'got.hvt'))
    expect(got.equals(await readFile(join(BUILD, 'bin/hello-key.hvt')))).toBe(true)
  })
})

describe('curl -F', () => {
  it('with a kernel of 256 MiB needs little memory', async () => {
    const path = join(folder, 'large.hvt')
    await cp(join(ELF, 'mini-net.hvt'), path)
    await truncate(path, LARGE_BYTES)
    const before = await sandbox.memoryPeak()
    const address = `http://${sandbox.host}/api/v1/repositories/large/images?tag=live`
    const printed = await sandbox.curl(['-u', sandbox.credential, '-F', `kernel=@${path}`, address])
    expect(JSON.parse(printed).layers[0].digest).toBe(digestOf(await readFile(path)))
    expect((await sandbox.memoryPeak()) - before).toBeLessThan(GROWTH_KIBIBYTES_MAX)
  })

  it('that is refused prints the reason, and exits with an error', async () => {
    const path = join(folder, 'cut.hvt')
    const mini = await readFile(join(ELF, 'mini-net.hvt'))
    await writeFile(path, mini.subarray(0, 300))
    const address = `http://${sandbox.host}/api/v1/repositories/refused/images?tag=live`
    const ran = await sandbox.run('curl', [
      '-sS',
      '--fail-with-body',
      '-u',
      sandbox.credential,
      '-F',
      `kernel=@${path}`,
      address,
    ])
    expect(ran.status).toBe(22)
    expect(ran.stdout).toMatch(/layer cut\.hvt is not a kernel: malformed kernel: at byte/)
  })
})

describe('a host polls', () => {
  it('with curl, and downloads only when the tag moved', async () => {
    await paste(ways[2], 'polled')
    const address = `http://${sandbox.host}/api/v1/repositories/polled/images/live/kernel`
    const poll = async () => {
      const args = ['-w', '%{http_code}', '--etag-save', 'etag', '--etag-compare', 'etag']
      return sandbox.succeed('curl', ['-fsSL', ...args, '-o', 'polled.hvt', address], folder)
    }
    await writeFile(join(folder, 'etag'), '')
    expect(await poll()).toBe('200')
    expect(await poll()).toBe('304')
    await sandbox.curl([
      '-u',
      sandbox.credential,
      '-F',
      `kernel=@${join(ELF, 'mini-net.hvt')}`,
      `http://${sandbox.host}/api/v1/repositories/polled/images?tag=live`,
    ])
    expect(await poll()).toBe('200')
    const got = await readFile(join(folder, 'polled.hvt'))
    expect(got.equals(await readFile(join(ELF, 'mini-net.hvt')))).toBe(true)
  })

  it.runIf(hasClient('oras'))('and what oras pushed as it is has a kernel too', async () => {
    await sandbox.orasAsAdmin(['push', `${sandbox.host}/plain:live`, 'mini-blk-net2.spt'], ELF)
    const image = await facts('plain')
    expect(image).toMatchObject({ target: 'spt', kernel: { title: 'mini-blk-net2.spt' } })
    const address = `http://${sandbox.host}/api/v1/repositories/plain/images/live/kernel`
    await sandbox.curl(['-OJ', '--output-dir', folder, address])
    const got = await readFile(join(folder, 'mini-blk-net2.spt'))
    expect(got.equals(await readFile(join(ELF, 'mini-blk-net2.spt')))).toBe(true)
  })
})
