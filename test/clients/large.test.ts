import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ClientSandbox, hasClient } from './client-sandbox.ts'

const MEBIBYTE = 1024 * 1024
const SIZE_MEBIBYTES = 256
// On S3 the buffers for parts come on top, which all uploads share.
const PART_BUFFERS_MEBIBYTES = process.env.TEST_STORE === undefined ? 0 : 112
const GROWTH_MEBIBYTES_MAX = 64 + PART_BUFFERS_MEBIBYTES

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return `sha256:${hash.digest('hex')}`
}

describe('a blob of 256 MiB', () => {
  let workshop: ClientSandbox
  let file: string
  let digest: string
  let before: number

  beforeAll(async () => {
    workshop = await ClientSandbox.open()
    file = join(workshop.folder, 'large')
    const handle = await open(file, 'w')
    for (let count = 0; count < SIZE_MEBIBYTES; count += 1) {
      await handle.write(randomBytes(MEBIBYTE))
    }
    await handle.close()
    digest = await sha256Of(file)
    // A small one there and back first, so that what is measured is the large ones. The peak never
    // falls, so every test below compares with this one value.
    const repository = `http://${workshop.host}/v2/large/small/blobs`
    const small = `sha256:${createHash('sha256').update('small').digest('hex')}`
    const post = ['-u', workshop.credential, '-X', 'POST', '--data-binary', 'small']
    await workshop.curl([...post, `${repository}/uploads/?digest=${small}`])
    await workshop.curl([`${repository}/${small}`])
    before = await workshop.memoryPeak()
  })

  afterAll(() => workshop?.close())

  /** By how many MiB the server's peak has grown, printed and held to the limit. */
  async function expectBoundedMemory(client: string): Promise<void> {
    const grown = ((await workshop.memoryPeak()) - before) / 1024
    const figure = `${grown.toFixed(1)} MiB (of at most ${GROWTH_MEBIBYTES_MAX})`
    process.stdout.write(`${client}, ${SIZE_MEBIBYTES} MiB there and back: grown by ${figure}\n`)
    expect(grown).toBeLessThan(GROWTH_MEBIBYTES_MAX)
  }

  it('goes there and back with curl in bounded memory', async () => {
    const uploads = `http://${workshop.host}/v2/large/curl/blobs/uploads/`
    const post = ['-u', workshop.credential, '-X', 'POST']
    const headers = await workshop.curl([...post, '-D', '-', '-o', '/dev/null', uploads])
    const location = /^location: (\S+)/im.exec(headers)?.[1] ?? ''
    const target = `http://${workshop.host}${location}?digest=${digest}`
    await workshop.curl(['-u', workshop.credential, '-T', file, target])
    const back = `${file}.curl`
    await workshop.curl(['-o', back, `http://${workshop.host}/v2/large/curl/blobs/${digest}`])
    expect(await sha256Of(back)).toBe(digest)
    await rm(back)
    await expectBoundedMemory('curl')
  })

  it.skipIf(!hasClient('oras'))('goes there and back with oras in bounded memory', async () => {
    const repository = `${workshop.host}/large/oras`
    await workshop.orasAsAdmin(['blob push', repository, file])
    const back = `${file}.oras`
    await workshop.oras(['blob', 'fetch', '--plain-http', '-o', back, `${repository}@${digest}`])
    expect(await sha256Of(back)).toBe(digest)
    await expectBoundedMemory('oras')
  })
})
