import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { pack } from 'tar-stream'
import { Database } from '../../src/db/database.ts'
import type { TestRegistry } from '../support/registry.ts'

/** A cut of opam-repository: the packages in the archives that the fixture builds vendor. */
export const REPOSITORY = fileURLToPath(new URL('../fixtures/opam-repository', import.meta.url))

/** The files of its packages, by path. */
export function packageFiles(): Map<string, Buffer> {
  const paths = readdirSync(REPOSITORY, { recursive: true, encoding: 'utf8' })
  return new Map(
    paths
      .filter((path) => path.endsWith('/opam'))
      .toSorted()
      .map((path) => [path, readFileSync(`${REPOSITORY}/${path}`)]),
  )
}

/** A tar archive of files below a folder, as GitHub makes it. */
export async function archiveOf(
  files: ReadonlyMap<string, Buffer | string>,
  folder = 'opam-repository-master/',
): Promise<Buffer> {
  const archive = pack()
  for (const [path, bytes] of files) archive.entry({ name: `${folder}${path}` }, bytes)
  archive.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of archive as AsyncIterable<Uint8Array>) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

export async function compressedArchive(): Promise<Buffer> {
  return gzipSync(await archiveOf(packageFiles()))
}

/** Runs `work` on the database of a registry. */
export async function withDatabaseOf<T>(
  { databaseUrl }: Pick<TestRegistry, 'databaseUrl'>,
  work: (db: Database) => Promise<T>,
): Promise<T> {
  const db = new Database({ connection: databaseUrl, connectionsMax: 4, onIdleError: () => {} })
  try {
    return await work(db)
  } finally {
    await db.close()
  }
}
