import { parseConfig } from '../../src/config/config.ts'
import { openBlobStore } from '../../src/server/blob-store.ts'
import type { StoredObject } from '../../src/storage/blob-store.ts'
import type { TestRegistry } from './registry.ts'

/**
 * A registry in a process of its own, with the interface of one in this process. Its owner stops
 * it.
 */
export function registryAt(
  url: string,
  folder: string,
  settings: Readonly<Record<string, string>>,
): TestRegistry {
  const password = settings.ROOKERY_ADMIN_PASSWORD ?? ''
  const databaseUrl = settings.ROOKERY_DATABASE_URL ?? ''
  const authorization = `Basic ${Buffer.from(`admin:${password}`).toString('base64')}`
  const anonymous = (path: string, init: RequestInit = {}) => fetch(new URL(path, url), init)
  return {
    ...{ url, folder, databaseUrl, password, settings, log: [], anonymous },
    async storedObjects() {
      const opened = await openBlobStore(parseConfig({ ...settings }), folder)
      const found: StoredObject[] = []
      for await (const one of opened.store.list('')) found.push(one)
      opened.close()
      return found
    },
    request: (path, init) =>
      anonymous(path, { ...init, headers: { authorization, ...(init?.headers as object) } }),
    close: async () => {},
  }
}
