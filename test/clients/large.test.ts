import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { have, Workshop } from './kit.ts'

const MEBIBYTE = 1024 * 1024
const SIZE_MEBIBYTES = 256
const GROWTH_MEBIBYTES_MAX = 64

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return `sha256:${hash.digest('hex')}`
}

describe('a blob of 256 MiB', () => {
  let workshop: Workshop
  let file: string
  let digest: string

  beforeAll(async () => {
    workshop = await Workshop.open()
    file = join(workshop.folder, 'large')
    const handle = await open(file, 'w')
    for (let count = 0; count < SIZE_MEBIBYTES; count += 1) {
      await handle.write(randomBytes(MEBIBYTE))
    }
    await handle.close()
    digest = await sha256Of(file)
  })

  afterAll(() => workshop?.close())

  const growth = (before: number, after: number) => (after - before) / 1024

  it('goes there and back with curl in bounded memory', async () => {
    const uploads = `http://${workshop.host}/v2/large/curl/blobs/uploads/`
    // A small one first, so that what is measured is the large one.
    const small = `sha256:${createHash('sha256').update('small').digest('hex')}`
    const post = ['-u', workshop.credential, '-X', 'POST']
    await workshop.curl([...post, '--data-binary', 'small', `${uploads}?digest=${small}`])
    await workshop.curl([`http://${workshop.host}/v2/large/curl/blobs/${small}`])
    const before = await workshop.memoryPeak()
    const headers = await workshop.curl([...post, '-D', '-', '-o', '/dev/null', uploads])
    const location = /^location: (\S+)/im.exec(headers)?.[1] ?? ''
    const target = `http://${workshop.host}${location}?digest=${digest}`
    await workshop.curl(['-u', workshop.credential, '-T', file, target])
    const back = `${file}.curl`
    await workshop.curl(['-o', back, `http://${workshop.host}/v2/large/curl/blobs/${digest}`])
    expect(await sha256Of(back)).toBe(digest)
    await rm(back)
    const grown = growth(before, await workshop.memoryPeak())
    process.stdout.write(
      `curl, 256 MiB there and back: the server grew by ${grown.toFixed(1)} MiB\n`,
    )
    expect(grown).toBeLessThan(GROWTH_MEBIBYTES_MAX)
  })

  it.skipIf(!have('oras'))('goes there and back with oras in bounded memory', async () => {
    const before = await workshop.memoryPeak()
    const repository = `${workshop.host}/large/oras`
    await workshop.orasAs(['blob push', repository, file])
    const back = `${file}.oras`
    await workshop.oras(['blob', 'fetch', '--plain-http', '-o', back, `${repository}@${digest}`])
    expect(await sha256Of(back)).toBe(digest)
    const grown = growth(before, await workshop.memoryPeak())
    process.stdout.write(
      `oras, 256 MiB there and back: the server grew by ${grown.toFixed(1)} MiB\n`,
    )
    expect(grown).toBeLessThan(GROWTH_MEBIBYTES_MAX)
  })
})
