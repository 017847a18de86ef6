import { execFileSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readlink, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { FilesystemStore } from '../../src/storage/filesystem/filesystem-store.ts'
import { chunksOf, describeBlobStore } from './blob-store.contract.ts'

const folder = await mkdtemp(join(tmpdir(), 'rookery-store-'))
afterAll(() => rm(folder, { recursive: true }))

describeBlobStore('FilesystemStore', () => FilesystemStore.open(folder))

describe('FilesystemStore', () => {
  async function storedFile(store: FilesystemStore): Promise<string> {
    const bytes = randomBytes(2_000_000)
    const { stage } = await store.append(await store.stage(randomUUID()), 0, chunksOf(bytes))
    return store.commit(stage, bytes.length, digestOf(bytes))
  }

  it('keeps files readable to their owner only, named by their digest', async () => {
    const key = await storedFile(await FilesystemStore.open(folder))
    expect(key).toMatch(/^sha256\/([0-9a-f]{2})\/\1[0-9a-f]{62}\.[0-9a-f-]{36}-[0-9a-f]{8}$/)
    expect((await stat(join(folder, 'blobs', key))).mode & 0o777).toBe(0o600)
    expect((await stat(join(folder, 'blobs', 'sha256'))).mode & 0o777).toBe(0o700)
  })

  it.each(['../../etc/passwd', '/etc/passwd', 'sha256/aa/../../../x', '', 'sha256/aa/b\0'])(
    'does not follow the key %j out of its folder',
    async (key) => {
      const store = await FilesystemStore.open(folder)
      await expect(store.stat(key)).rejects.toThrow('not a storage key')
      await expect(store.remove(key)).rejects.toThrow('not a storage key')
    },
  )

  it.each([{ file: '../x' }, { file: '' }, {}, { file: 7 }])(
    'does not follow the stage %j',
    async (stage) => {
      const store = await FilesystemStore.open(folder)
      const lost = { name: 'StageLostError' }
      await expect(store.append(stage, 0, chunksOf())).rejects.toMatchObject(lost)
      await expect(store.commit(stage, 0, digestOf(Buffer.from('')))).rejects.toMatchObject(lost)
      await store.discard(stage, await store.stage(randomUUID()))
    },
  )

  it('closes the file of a reader that stopped half-way', async () => {
    const store = await FilesystemStore.open(folder)
    const key = await storedFile(store)
    for (let count = 0; count < 50; count += 1) {
      for await (const _chunk of store.read(key, { start: 0, end: 1_999_999 })) break
    }
    expect(await openFilesBelow(folder)).toEqual([])
  })

  it.skipIf(process.getuid?.() !== 0)('says that it is full, and keeps what it had', async () => {
    const small = join(folder, 'small')
    await mkdir(small)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', small], { stdio: 'pipe' })
    } catch {
      process.stderr.write('SKIPPED: this machine lets nobody mount a small disk\n')
      return
    }
    try {
      const store = await FilesystemStore.open(small)
      const key = await storedFile(store)
      const stage = await store.stage(randomUUID())
      const full = store.append(stage, 0, chunksOf(randomBytes(8_000_000)))
      await expect(full).rejects.toMatchObject({ name: 'StoreFullError' })
      expect(await store.stat(key)).toBe(2_000_000)
      expect(await readdir(join(small, 'uploads'))).toHaveLength(1)
      // The space is free again when the append has failed.
      const fits = chunksOf(randomBytes(1_500_000))
      expect(await store.append(stage, 0, fits)).toMatchObject({ size: 1_500_000 })
      await store.cleanUp(String(stage.file), undefined, undefined)
      expect(await readdir(join(small, 'uploads'))).toEqual([])
    } finally {
      execFileSync('umount', [small])
    }
  })
})

async function openFilesBelow(place: string): Promise<string[]> {
  const links = await readdir('/proc/self/fd')
  const targets = await Promise.all(
    links.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  )
  return targets.filter((target) => target.startsWith(place))
}
