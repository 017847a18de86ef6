import { randomBytes } from 'node:crypto'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf, digestOfFile } from '../support/digest.ts'
import { ClientSandbox, hasClient } from './client-sandbox.ts'

const MEBIBYTE = 1024 * 1024
const SIZE_MEBIBYTES = 256
// On S3 the part buffers, which all uploads share, add to it.
const PART_BUFFERS_MEBIBYTES = process.env.TEST_STORE === undefined ? 0 : 112
const GROWTH_MEBIBYTES_MAX = 64 + PART_BUFFERS_MEBIBYTES

describe('a blob of 256 MiB', () => {
  let sandbox: ClientSandbox
  let file: string
  let digest: string
  let before: number

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    file = join(sandbox.folder, 'large')
    const handle = await open(file, 'w')
    for (let count = 0; count < SIZE_MEBIBYTES; count += 1) {
      await handle.write(randomBytes(MEBIBYTE))
    }
    await handle.close()
    digest = await digestOfFile(file)
    // A small blob first, so that only the large ones are measured. The peak never falls, so every
    // test below compares with this one value.
    const repository = `http://${sandbox.host}/v2/large/small/blobs`
    const small = digestOf('small')
    const post = ['-u', sandbox.credential, '-X', 'POST', '--data-binary', 'small']
    await sandbox.curl([...post, `${repository}/uploads/?digest=${small}`])
    await sandbox.curl([`${repository}/${small}`])
    before = await sandbox.memoryPeak()
  })

  afterAll(() => sandbox?.close())

  /** Prints by how many MiB the server's peak has grown, and asserts the limit. */
  async function expectBoundedMemory(client: string): Promise<void> {
    const grown = ((await sandbox.memoryPeak()) - before) / 1024
    const figure = `${grown.toFixed(1)} MiB (of at most ${GROWTH_MEBIBYTES_MAX})`
    process.stdout.write(`${client}, ${SIZE_MEBIBYTES} MiB there and back: grown by ${figure}\n`)
    expect(grown).toBeLessThan(GROWTH_MEBIBYTES_MAX)
  }

  it('goes there and back with curl in bounded memory', async () => {
    const uploads = `http://${sandbox.host}/v2/large/curl/blobs/uploads/`
    const post = ['-u', sandbox.credential, '-X', 'POST']
    const headers = await sandbox.curl([...post, '-D', '-', '-o', '/dev/null', uploads])
    const location = /^location: (\S+)/im.exec(headers)?.[1] ?? ''
    const target = `http://${sandbox.host}${location}?digest=${digest}`
    await sandbox.curl(['-u', sandbox.credential, '-T', file, target])
    const back = `${file}.curl`
    await sandbox.curl(['-o', back, `http://${sandbox.host}/v2/large/curl/blobs/${digest}`])
    expect(await digestOfFile(back)).toBe(digest)
    await rm(back)
    await expectBoundedMemory('curl')
  })

  it.skipIf(!hasClient('oras'))('goes there and back with oras in bounded memory', async () => {
    const repository = `${sandbox.host}/large/oras`
    await sandbox.orasAsAdmin(['blob push', repository, file])
    const back = `${file}.oras`
    await sandbox.oras(['blob', 'fetch', '--plain-http', '-o', back, `${repository}@${digest}`])
    expect(await digestOfFile(back)).toBe(digest)
    await expectBoundedMemory('oras')
  })
})
