import { cp, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../support/digest.ts'
import { BUILD, ClientSandbox, ELF, hasClient } from './client-sandbox.ts'

const LARGE_BYTES = 256 * 1024 * 1024
const GROWTH_KIBIBYTES_MAX = 128 * 1024

let sandbox: ClientSandbox
let folder: string

beforeAll(async () => {
  sandbox = await ClientSandbox.open()
  folder = join(sandbox.folder, 'build')
  await cp(BUILD, folder, { recursive: true })
})

afterAll(() => sandbox?.close())

/** Sends a build as one form, as the specification shows. */
async function pushForm(repository: string): Promise<void> {
  const address = `http://${sandbox.host}/api/v1/repositories/${repository}/images?tag=live`
  const parts = ['kernel=@bin/hello-key.hvt', 'opam-switch=@opam-switch'].flatMap((part) => [
    '-F',
    part,
  ])
  await sandbox.succeed('curl', ['-fsS', '-u', sandbox.credential, ...parts, address], folder)
}

async function facts(repository: string) {
  const address = `http://${sandbox.host}/api/v1/repositories/${repository}/images/live`
  return JSON.parse(await sandbox.curl(['-u', sandbox.credential, address]))
}

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
    await pushForm('polled')
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
