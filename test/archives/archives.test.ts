import { Buffer } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { pack } from 'tar-stream'
import { describe, expect, it } from 'vitest'
import { decompress } from '../../src/archives/decompress.ts'
import { normalPath, readTar } from '../../src/archives/tar.ts'
import { type LayerEntry, tarOf } from '../support/container-images.ts'
import { chunksOf, entriesOf, NEVER, withChecksum, withSize } from './tar-fixtures.ts'

async function decompressed(bytes: Buffer, bytesMax = 100_000_000, signal = NEVER) {
  const chunks: Buffer[] = []
  for await (const chunk of decompress(chunksOf(bytes), { bytesMax, signal })) {
    chunks.push(Buffer.from(chunk))
  }
  return Buffer.concat(chunks)
}

describe('decompress', () => {
  it('reads gzip with several members, and passes other bytes on', async () => {
    const bytes = randomBytes(300_000)
    const members = [bytes.subarray(0, 10), bytes.subarray(10, 10), bytes.subarray(10)]
    const gzip = Buffer.concat(members.map((part) => gzipSync(part)))
    expect((await decompressed(gzip)).equals(bytes)).toBe(true)
    expect((await decompressed(bytes)).equals(bytes)).toBe(true)
    for (const small of ['', 'a', 'ab']) {
      expect((await decompressed(Buffer.from(small))).toString()).toBe(small)
    }
  })

  it('ends at its bounds, and says which', async () => {
    const bomb = gzipSync(Buffer.alloc(80 * 1024 * 1024))
    await expect(decompressed(bomb)).rejects.toMatchObject({
      message: expect.stringContaining('200 times its size'),
      readableWith: undefined,
    })
    await expect(decompressed(gzipSync(randomBytes(5000)), 4000)).rejects.toMatchObject({
      message: 'it has more than 4000 bytes when it is decompressed',
      readableWith: 'limit',
    })
    const ended = AbortSignal.abort()
    await expect(decompressed(Buffer.from('text'), 100, ended)).rejects.toMatchObject({
      readableWith: 'limit',
    })
  })

  it('refuses a damaged stream and one that ends early', async () => {
    const gzip = gzipSync(randomBytes(50_000))
    const broken = Buffer.from(gzip)
    broken.fill(0, 20_000, 20_100)
    for (const bytes of [gzip.subarray(0, 30_000), broken]) {
      await expect(decompressed(bytes)).rejects.toMatchObject({
        name: 'ArchiveError',
        message: expect.stringMatching(/^it is damaged: /),
      })
    }
  })

  it('ends its source when the reader stops, and passes on the failure of the source', async () => {
    let isEnded = false
    async function* endless() {
      try {
        for (;;) yield randomBytes(1000)
      } finally {
        isEnded = true
      }
    }
    for await (const _ of decompress(endless(), { bytesMax: 1e9, signal: NEVER })) break
    expect(isEnded).toBe(true)
    async function* failing() {
      yield gzipSync(randomBytes(50_000)).subarray(0, 20_000)
      throw new Error('the disk is gone')
    }
    const reading = async () => {
      for await (const _ of decompress(failing(), { bytesMax: 1e9, signal: NEVER }));
    }
    await expect(reading()).rejects.toThrow('the disk is gone')
  })
})

describe('a tar file', () => {
  it('has its entries with normal paths, kinds, contents and offsets', async () => {
    const long = `${'folder/'.repeat(40)}${'n'.repeat(120)}`
    const wanted: LayerEntry[] = [
      ['./a/', { type: 'directory' }],
      ['/a//b', 'one'],
      ['a/./c/../d', 'two'],
      ['ünïcödé', 'three'],
      [long, 'four'],
      ['hard', { type: 'link', linkname: './a/b' }],
      ['soft', { type: 'symlink', linkname: 'a/b' }],
      ['pipe', { type: 'fifo' }],
    ]
    const tar = await tarOf(wanted)
    const entries = await entriesOf(tar)
    expect(entries.map(({ path, kind, target, content }) => [path, kind, target, content])).toEqual(
      [
        ['a', 'directory', undefined, ''],
        ['a/b', 'file', undefined, 'one'],
        ['a/d', 'file', undefined, 'two'],
        ['ünïcödé', 'file', undefined, 'three'],
        [long, 'file', undefined, 'four'],
        ['hard', 'link', 'a/b', ''],
        ['soft', 'symlink', 'a/b', ''],
        ['pipe', 'other', undefined, ''],
      ],
    )
    for (const { offset, size, content, kind } of entries) {
      if (kind === 'file') expect(tar.toString('utf8', offset, offset + size)).toBe(content)
    }
  })

  it('has no entry whose path leads out of it', async () => {
    const tar = await tarOf([
      ['../etc/passwd', 'x'],
      ['a/../../b', 'x'],
      ['link', { type: 'link', linkname: '../../c' }],
      ['good', 'x'],
    ])
    expect((await entriesOf(tar)).map(({ path }) => path)).toEqual(['good'])
    expect(normalPath('a/../../b')).toBeUndefined()
    expect(normalPath('/')).toBe('')
  })

  it('does not give the content of a sparse file as that of a file', async () => {
    const pax = { 'GNU.sparse.major': '1', 'GNU.sparse.name': 'unikernel.hvt' }
    const archive = pack()
    archive.entry({ name: 'GNUSparseFile.0/unikernel.hvt', pax } as { name: string }, 'map')
    archive.finalize()
    const tar = await buffer(archive)
    expect(await entriesOf(tar)).toMatchObject([{ path: 'unikernel.hvt', kind: 'other' }])
    const old = await tarOf([['sparse', 'content']])
    old.write('S', 156)
    expect(await entriesOf(withChecksum(old))).toMatchObject([{ path: 'sparse', kind: 'other' }])
  })

  it.each([1, 511, 4096, 65_536, 1_000_000])(
    'of any other bytes is refused with the reason, in chunks of %i',
    async (chunkBytes) => {
      const bytes = randomBytes(chunkBytes === 1 ? 3000 : 1_000_000)
      const begun = Buffer.concat([(await tarOf([['a', 'x']])).subarray(0, 1024), bytes])
      for (const one of [bytes, begun]) {
        await expect(entriesOf(one, 1000, chunkBytes)).rejects.toMatchObject({
          name: 'ArchiveError',
          message: expect.stringContaining('it is no tar file: '),
        })
      }
    },
  )

  it('that is damaged, cut or too long is refused with the reason', async () => {
    const tar = await tarOf([
      ['a', 'x'.repeat(2000)],
      ['b', 'y'],
    ])
    const cases: [Buffer, string][] = [
      [Buffer.from('no tar '.repeat(200)), 'it is no tar file: '],
      [tar.subarray(0, 1500), 'it is no tar file: it ends within an entry'],
      [withSize(tar, '77777777777'), 'it is no tar file: it ends within an entry'],
      [withSize(tar, '\xff'.repeat(12)), 'it is no tar file: '],
      [await hugeHeader(), 'it is no tar file: an extended header has more than 1048576 bytes'],
    ]
    for (const [bytes, message] of cases) {
      await expect(entriesOf(bytes)).rejects.toMatchObject({
        name: 'ArchiveError',
        message: expect.stringContaining(message),
      })
    }
    await expect(entriesOf(tar, 1)).rejects.toThrow('it has more than 1 entries')
  })

  it('stops reading when its reader fails', async () => {
    const tar = await tarOf([['a', randomBytes(100_000)]])
    const bytes = decompress(chunksOf(tar), { bytesMax: 1e9, signal: NEVER })
    const failing = readTar(bytes, { entriesMax: 10 }, () => () => {
      throw new Error('full')
    })
    await expect(failing).rejects.toThrow('full')
  })
})

/** A PAX header that announces a gigabyte. */
async function hugeHeader(): Promise<Buffer> {
  const tar = await tarOf([['PaxHeader', 'x']])
  tar.write('x', 156)
  return withSize(tar, '10000000000')
}
