import { Readable } from 'node:stream'
import { createGzip, gzipSync } from 'node:zlib'
import { expect, it } from 'vitest'
import { packageFilesIn } from '../../src/registry/opam-index/package-files.ts'

const MEBIBYTE = 1024 * 1024

async function readAll(bytes: AsyncIterable<Uint8Array>): Promise<number> {
  let files = 0
  await packageFilesIn(bytes)(async () => {
    files += 1
  })
  return files
}

/** A header of tar: name, size and kind of the entry that follows. */
function header(name: string, size: number, kind: string): Buffer {
  const bytes = Buffer.alloc(512)
  bytes.write(name, 0)
  bytes.write('0000644\0', 100)
  bytes.write(`${size.toString(8).padStart(11, '0')}\0`, 124)
  bytes.write('        ', 148)
  bytes.write(kind, 156)
  bytes.write('ustar\x0000', 257)
  const sum = bytes.reduce((total, byte) => total + byte, 0)
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return bytes
}

async function* zeros(first: Buffer, mebibytes: number) {
  yield first
  for (let index = 0; index < mebibytes; index += 1) yield Buffer.alloc(MEBIBYTE)
}

it('an archive that unpacks to much more than its size ends there', async () => {
  const size = 2048
  const bomb = Readable.from(zeros(header('packages/a/a.1/files/x', size * MEBIBYTE, '0'), size))
  const before = process.memoryUsage().rss
  await expect(readAll(bomb.compose(createGzip({ level: 1 })))).rejects.toThrow(
    /decompresses to more than 200 times its size/,
  )
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * MEBIBYTE)
})

it.each(['x', 'g', 'L'])('a header of kind %s that has no end is refused', async (kind) => {
  const before = process.memoryUsage().rss
  await expect(readAll(zeros(header('h', 512 * MEBIBYTE, kind), 600))).rejects.toThrow(
    /an extended header has more than 1048576 bytes/,
  )
  expect(process.memoryUsage().rss - before).toBeLessThan(100 * MEBIBYTE)
})

it('a large archive ends at the limit', async () => {
  const size = 1100
  const large = zeros(header('packages/a/a.1/files/x', size * MEBIBYTE, '0'), size)
  await expect(readAll(large)).rejects.toThrow(/it has more than 1073741824 bytes/)
})

it('links, folders and paths that leave the archive are no packages', async () => {
  const name = '../../packages/a/a.1/opam'
  const link = header('packages/a/a.2/opam', 0, '2')
  const archive = Buffer.concat([
    link,
    header('packages/a/a.3/opam', 0, '5'),
    header(name, 0, '0'),
    Buffer.alloc(1024),
  ])
  expect(await readAll(Readable.from([gzipSync(archive)]))).toBe(0)
})
