import { Buffer } from 'node:buffer'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { readTar } from '../../src/archives/tar.ts'
import { tarOf } from '../support/container-images.ts'
import { entriesOf, withChecksum, withSize } from './tar-fixtures.ts'

const BLOCK = 512
const END = Buffer.alloc(2 * BLOCK)
const RUNS = 2000
const RUN_MILLISECONDS_MAX = 5000

/** Makes a header with a flag and the bytes that follow it. */
async function part(flag: string, content: Buffer | string, name = 'a'): Promise<Buffer> {
  const tar = await tarOf([[name, content]])
  tar.write(flag, 156, 'latin1')
  return withChecksum(tar.subarray(0, tar.length - END.length))
}

const pathsOf = async (...parts: Buffer[]) =>
  (await entriesOf(Buffer.concat(parts))).map(({ path, content }) => [path, content])

const record = (text: string): string => {
  const length = [2, 3, 4].map((digits) => text.length + 2 + digits)
  return `${length.find((all) => String(all).length + text.length + 2 === all)} ${text}\n`
}

it('any bytes in the headers of a tar file give entries or a reason', async () => {
  const tar = await tarOf([
    ['a', 'x'.repeat(2000)],
    ['b', { type: 'link', linkname: 'a' }],
    ['ü'.repeat(200), 'y'],
  ])
  const headers: number[] = []
  for (let at = 0; at < tar.length; at += BLOCK) {
    if (tar.toString('latin1', at + 257, at + 262) === 'ustar') headers.push(at)
  }
  expect(headers).toHaveLength(4)
  // The sizes and flags decide what is read next.
  const place = fc.oneof(fc.integer({ min: 124, max: 156 }), fc.nat(BLOCK - 1))
  const change = fc.tuple(fc.constantFrom(...headers), place, fc.nat(255))
  const read = async (changes: readonly (readonly [number, number, number])[]) => {
    const hostile = Buffer.from(tar)
    for (const [header, at, byte] of changes) hostile[header + at] = byte
    for (const [header] of changes) withChecksum(hostile, header)
    const error = await entriesOf(hostile).then(
      () => undefined,
      (reason) => reason,
    )
    if (error !== undefined) expect(error).toMatchObject({ name: 'ArchiveError' })
  }
  const changes = fc.array(change, { minLength: 1, maxLength: 4 })
  // A run that fails names its seed.
  await fc.assert(fc.asyncProperty(changes, read), { numRuns: RUNS, timeout: RUN_MILLISECONDS_MAX })
})

it.each(['\xe3\0', '\x8b', '\xff', '\xc0', '9', 'x', '-1', '1.5'])(
  'a size that is no number of bytes is refused: %j',
  async (size) => {
    const tar = withSize(await tarOf([['a', 'x'.repeat(2000)]]), size.padEnd(12, '\xff'))
    await expect(entriesOf(tar)).rejects.toThrow('the size of an entry is no number')
  },
)

it.each(['x', '-1', '1.5', '1e3', '9'.repeat(16)])(
  'a size in a PAX header that is no number of bytes is refused: %s',
  async (size) => {
    const tar = Buffer.concat([await part('x', record(`size=${size}`)), await part('0', 'x')])
    await expect(entriesOf(tar)).rejects.toThrow('the size of an entry is no number')
  },
)

it('a size of an entry without content says nothing about the bytes that follow', async () => {
  const next = await part('0', 'x', 'next')
  for (const flag of ['1', '2', '3', '4', '5', '6']) {
    const tar = await tarOf([['a', { type: 'directory' }]])
    tar.write(flag, 156)
    tar.write('b', 157)
    const header = withSize(tar, '00000007777 ').subarray(0, BLOCK)
    expect(await pathsOf(header, next, END)).toEqual([
      ['a', ''],
      ['next', 'x'],
    ])
  }
})

it('long names, prefixes and PAX records are those of the entry that follows', async () => {
  const [long, pax] = [`${'l'.repeat(150)}`, `${'p/'.repeat(80)}ü`]
  const plain = await part('0', 'x', 'plain')
  const star = await part('0', 'x', 'star')
  star.write('tar\0', 508)
  star.write('folder', 345)
  star.write('12345670123', 476)
  const paxBytes = Buffer.byteLength(pax) - pax.length
  const paxRecord = `${pax.length + paxBytes + 10} path=${pax}\n`
  expect(
    await pathsOf(
      ...[await part('L', `${long}\0`), plain, await part('x', paxRecord), plain, plain],
      ...[await part('g', record('path=other')), plain, withChecksum(star), END],
    ),
  ).toEqual([
    [long, 'x'],
    [pax, 'x'],
    ['plain', 'x'],
    ['plain', 'x'],
    ['folder/star', 'x'],
  ])
  const linked = await entriesOf(
    Buffer.concat([await part('K', 'to/long\0'), (await part('2', '', 'link')).subarray(0, BLOCK)]),
  )
  expect(linked).toMatchObject([{ path: 'link', kind: 'symlink', target: 'to/long' }])
})

it('the map of an old sparse file is no entry', async () => {
  const sparse = await part('S', 'content', 'sparse')
  sparse[482] = 1
  withChecksum(sparse)
  const map = (more: number) => Buffer.alloc(BLOCK, 'm').fill(more, 504, 505)
  const parts = [sparse.subarray(0, BLOCK), map(1), map(0), sparse.subarray(BLOCK)]
  expect(await entriesOf(Buffer.concat([...parts, await part('0', 'x', 'next')]))).toMatchObject([
    { path: 'sparse', kind: 'other', content: 'content' },
    { path: 'next', content: 'x' },
  ])
  const cut = Buffer.concat(parts.slice(0, 2))
  await expect(entriesOf(cut)).rejects.toThrow('it ends within an entry')
})

it('ends at two blocks of zeros, and has no single one', async () => {
  const [one, two] = [await part('0', 'x', 'one'), await part('0', 'y', 'two')]
  expect(await pathsOf(one, END, two, Buffer.from('anything'))).toEqual([['one', 'x']])
  expect(await pathsOf(one)).toEqual([['one', 'x']])
  const single = pathsOf(one, END.subarray(BLOCK), two)
  await expect(single).rejects.toThrow('a header follows a block of zeros')
})

it.each([
  ['5 a=', 'a PAX header is malformed'],
  ['6 a=b ', 'a PAX header is malformed'],
  ['1e1 a=bcd\n', 'a PAX header is malformed'],
  ['-6 a=b\n', 'a PAX header is malformed'],
  ['99 a=b\n', 'a PAX header is malformed'],
  ['5 ab\n', 'a PAX header is malformed'],
  ['10 path=\0\n', 'a path in a PAX header has a zero'],
  [record(`path=${'a/'.repeat(2049)}`), 'it has a path of more than 4096 bytes'],
])('the PAX header %j is refused', async (pax, reason) => {
  const tar = Buffer.concat([await part('x', pax), await part('0', 'x')])
  await expect(entriesOf(tar)).rejects.toThrow(reason)
})

it('many records of PAX headers do not hold up the event loop', async () => {
  const records = Buffer.from('5 a=\n'.repeat(200_000))
  const global = await part('g', records)
  const parts: Buffer[] = [global]
  for (let count = 0; count < 20; count += 1)
    parts.push(await part('x', records), await part('0', 'x'))
  const bytes = Buffer.concat([...parts, END])
  let longest = 0
  async function* chunks() {
    for (let at = 0; at < bytes.length; at += 64 * 1024) {
      const begun = process.cpuUsage()
      yield bytes.subarray(at, at + 64 * 1024)
      longest = Math.max(longest, process.cpuUsage(begun).user / 1000)
      await nextTurn()
    }
  }
  let entries = 0
  await readTar(chunks(), { entriesMax: 1000 }, () => {
    entries += 1
    return undefined
  })
  expect(entries).toBe(20)
  // It takes 20 ms of CPU. With an object for all records of the archive it took minutes.
  expect(longest).toBeLessThan(1000)
})
