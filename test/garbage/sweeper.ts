import pg from 'pg'
import { parseConfig } from '../../src/config/config.ts'
import { Database } from '../../src/db/database.ts'
import { GarbageCollector } from '../../src/registry/maintenance/garbage.ts'
import { openBlobStore } from '../../src/server/blob-store.ts'
import type { StoredObject } from '../../src/storage/blob-store.ts'
import type { TestRegistry } from '../support/registry.ts'

/** Sweeps the garbage of a running registry. */
export type Sweeper = {
  /** Returns a collector with this grace period, which may have fractions of a second. */
  garbage(graceSeconds: number): GarbageCollector
  readonly client: pg.Client
  /** Sweeps without a grace period until no garbage is left. */
  sweepAll(): Promise<void>
  /** Removes the bytes of an object, and no row. */
  removeObject(object: StoredObject): Promise<void>
  close(): Promise<void>
}

/** Opens the registry's database and store again, as another process does. */
export async function openSweeper(registry: TestRegistry): Promise<Sweeper> {
  const db = new Database({
    connection: registry.databaseUrl,
    connectionsMax: 4,
    onIdleError: () => {},
  })
  const opened = await openBlobStore(parseConfig({ ...registry.settings }), registry.folder)
  const client = new pg.Client(registry.databaseUrl)
  await client.connect()
  const garbage = (graceSeconds: number) => new GarbageCollector(db, opened.store, graceSeconds)
  return {
    garbage,
    client,
    async sweepAll() {
      for (;;) {
        const { uploads, checked, deletions, failures } = await garbage(0).sweep()
        if (failures.length > 0) throw failures[0]
        if (uploads + checked + deletions === 0) return
      }
    },
    removeObject: (object) => opened.store.removeObject(object),
    async close() {
      await client.end()
      await db.close()
      opened.close()
    },
  }
}
