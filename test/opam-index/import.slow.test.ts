import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/config/config.ts'
import { AlreadyRunningError } from '../../src/db/maintenance/jobs.ts'
import { listOpamImports } from '../../src/db/opam-index/opam-index.ts'
import { importPackages, importUrl } from '../../src/registry/opam-index/import.ts'
import { packageFilesOf } from '../../src/registry/opam-index/package-files.ts'
import { createLog } from '../../src/server/log.ts'
import { createArchiveClient } from '../../src/server/opam-index.ts'
import { startServer } from '../../src/server/server.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import {
  archiveOf,
  compressedArchive,
  packageFiles,
  REPOSITORY,
  withDatabaseOf,
} from './fixture-repository.ts'

let registry: TestRegistry
let folder: string

beforeAll(async () => {
  registry = await startRegistry()
  folder = await mkdtemp(join(tmpdir(), 'rookery-opam-'))
})
afterAll(async () => {
  await registry.close()
  await rm(folder, { recursive: true, force: true })
})

const importBytes = async (name: string, bytes: Buffer | string) => {
  const path = join(folder, name)
  await writeFile(path, bytes)
  const run = () => withDatabaseOf(registry, (db) => importPackages(db, path, packageFilesOf(path)))
  // Postgres ends the lock of the import before with its connection, some milliseconds later.
  for (;;) {
    try {
      return await run()
    } catch (error) {
      if (!(error instanceof AlreadyRunningError)) throw error
    }
  }
}

const FILE = (checksum: string) =>
  `opam-version: "2.0"\nurl {\n  src: "https://example.org/a.tbz"\n  checksum: "md5=${checksum.repeat(32)}"\n}\n`

describe('an opam repository is imported', () => {
  it('from a folder, a tar and a tar.gz, and each package once', async () => {
    const inFolder = await withDatabaseOf(registry, (db) =>
      importPackages(db, REPOSITORY, packageFilesOf(REPOSITORY)),
    )
    expect(inFolder).toMatchObject({ files: 71, read: 71, problems: 0, shown: [] })
    expect(inFolder.sources).toBeGreaterThan(71)
    const tar = await importBytes('a.tar', await archiveOf(packageFiles()))
    expect(tar).toMatchObject({ files: 71, read: 0, sources: 0 })
    expect(await importBytes('a.tgz', await compressedArchive())).toMatchObject({ read: 0 })
  })

  it('again when one package has changed, which is read alone', async () => {
    const path = 'packages/a/a.1/opam'
    const first = await importBytes('b.tar', await archiveOf(new Map([[path, FILE('1')]])))
    expect(first).toMatchObject({ files: 1, read: 1, sources: 2 })
    const both = new Map([
      [path, FILE('2')],
      ['packages/a/a.2/opam', 'opam-version: "2.0"\n'],
    ])
    // The archive of the first checksum stays that of a.1.
    expect(await importBytes('b.tar', await archiveOf(both))).toMatchObject({ read: 2, sources: 1 })
  })

  it('with a problem for each file that cannot be read, and the others', async () => {
    const files = new Map([
      ['packages/c/c.1/opam', 'opam-version: "2.0'],
      ['packages/c/c.2/opam', FILE('3')],
      ['packages/c/c.3/opam', 'x'.repeat(300 * 1024)],
      ['packages/c/not-a-package/opam', FILE('4')],
      ['packages/c/c.4/files/opam', FILE('4')],
    ])
    const report = await importBytes('c.tar', await archiveOf(files, ''))
    expect(report).toMatchObject({ files: 3, read: 1, problems: 2 })
    expect(report.shown.toSorted()).toEqual([
      expect.stringMatching(/^c\.1: malformed opam file: line 1, column 15/),
      'c.3: the file is too large',
    ])
  })

  it.each([
    ['nothing', Buffer.alloc(0), /is no opam repository: it has no file packages\/NAME/],
    ['text', Buffer.from('text '.repeat(500)), /the archive cannot be read/],
    ['zstd', Buffer.from('28b52ffd00', 'hex'), /compressed with zstd|it is no tar file|damaged/],
    ['half', gzipSync(Buffer.alloc(100_000)).subarray(0, 60), /the archive cannot be read/],
  ])('and %s is none', async (name, bytes, message) => {
    await expect(importBytes(name, bytes)).rejects.toThrow(message)
  })

  it('and a missing file is none', async () => {
    const path = join(folder, 'missing')
    await expect(
      withDatabaseOf(registry, (db) => importPackages(db, path, packageFilesOf(path))),
    ).rejects.toThrow(/there is no file or folder/)
  })

  it('never twice at once', async () => {
    const together = await withDatabaseOf(registry, (db) =>
      Promise.allSettled(
        [1, 2].map(() => importPackages(db, REPOSITORY, packageFilesOf(REPOSITORY))),
      ),
    )
    expect(together.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected'])
    expect(together.find(({ status }) => status === 'rejected')).toMatchObject({
      reason: { message: 'another process is running an import of an opam repository' },
    })
  })
})

describe('an archive at a URL', () => {
  const etags: (string | undefined)[] = []
  let server: Server
  let url: string
  beforeAll(async () => {
    const archive = await compressedArchive()
    server = createServer((request, response) => {
      if (request.url === '/moved') {
        response.writeHead(302, { location: '/index.tar.gz' }).end()
        return
      }
      if (request.url !== '/index.tar.gz') {
        response.writeHead(404).end()
        return
      }
      etags.push(request.headers['if-none-match'])
      const isSame = request.headers['if-none-match'] === '"1"'
      response.writeHead(isSame ? 304 : 200, { etag: '"1"' }).end(isSame ? undefined : archive)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => server.close())

  const clientFor = (networks: string) =>
    createArchiveClient(
      parseConfig({ ...registry.settings, ROOKERY_OPAM_ALLOW_NETWORKS: networks }),
    )

  it('is downloaded only when it has changed, also behind a redirect', async () => {
    const client = clientFor('127.0.0.0/8')
    const run = () =>
      withDatabaseOf(registry, (db) => importUrl(db, `${url}/moved`, client.download))
    etags.length = 0
    expect(await run()).toMatchObject({ files: 71 })
    expect(await run()).toBeUndefined()
    expect(etags).toEqual([undefined, '"1"'])
    // It is not checked again for a while, unless the clock of the database was ahead.
    const late = () =>
      withDatabaseOf(registry, (db) => importUrl(db, `${url}/moved`, client.download, 3600))
    expect(await late()).toBeUndefined()
    expect(etags).toHaveLength(2)
    await withDatabaseOf(registry, (db) =>
      db.query(`update opam_imports set checked_at = now() + interval '1 day'`),
    )
    expect(await late()).toBeUndefined()
    expect(etags).toHaveLength(3)
    client.close()
  })

  it('in an internal network is refused, unless the setting allows it', async () => {
    const client = clientFor('')
    await expect(
      withDatabaseOf(registry, (db) => importUrl(db, `${url}/index.tar.gz`, client.download)),
    ).rejects.toThrow(/ROOKERY_OPAM_ALLOW_NETWORKS allows networks/)
    client.close()
  })

  it('that is missing says so', async () => {
    const client = clientFor('127.0.0.0/8')
    await expect(
      withDatabaseOf(registry, (db) => importUrl(db, `${url}/none`, client.download)),
    ).rejects.toThrow(/answered with status 404/)
    client.close()
  })

  it('is imported by one of several replicas', async () => {
    const own = await startRegistry()
    etags.length = 0
    const settings = {
      ...own.settings,
      ROOKERY_OPAM_URL: `${url}/index.tar.gz`,
      ROOKERY_OPAM_ALLOW_NETWORKS: '127.0.0.0/8',
    }
    const start = () =>
      startServer(parseConfig(settings), createLog('fatal'), (error) => {
        throw error
      })
    const replicas = await Promise.all([start(), start()])
    try {
      const imports = () => withDatabaseOf(own, (db) => listOpamImports(db, 10))
      await expect
        .poll(async () => (await imports()).map(({ files }) => files), { timeout: 30_000 })
        .toEqual([71])
      expect(etags).toEqual([undefined])
    } finally {
      await Promise.all(replicas.map((replica) => replica.close()))
      await own.close()
    }
  })
})
