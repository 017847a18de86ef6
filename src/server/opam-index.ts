import type { Config } from '../config/config.ts'
import { GuardedClient } from '../outgoing/client.ts'
import { startIndexRefresh, startResolution } from '../registry/opam-index/background.ts'
import type { DownloadArchive } from '../registry/opam-index/import.ts'
import type { CleanupStack } from './cleanup.ts'
import type { Log } from './log.ts'
import type { Stores } from './stores.ts'

// The archive of opam's repository has 15 MB.
export const ARCHIVE_BYTES_MAX = 64 * 1024 * 1024
const DOWNLOAD_MILLISECONDS_MAX = 300_000
const REDIRECTS_MAX = 5

/** A server did not send an archive. The message is one line. */
export class DownloadFailedError extends Error {
  override readonly name = 'DownloadFailedError'
}

/** Downloads archives of opam repositories, guarded against internal addresses. */
export type ArchiveClient = { readonly download: DownloadArchive; close(): void }

/** Creates the client, which knows the networks that servers may be in. */
export function createArchiveClient({ opamAllowNetworks }: Config): ArchiveClient {
  const client = new GuardedClient({
    allowed: opamAllowNetworks,
    hint: 'ROOKERY_OPAM_ALLOW_NETWORKS allows networks',
    requestMilliseconds: DOWNLOAD_MILLISECONDS_MAX,
  })
  return { download: (url, etag) => download(client, url, etag), close: () => client.close() }
}

async function download(client: GuardedClient, url: string, etag: string | undefined) {
  const headers = etag === undefined ? {} : { 'if-none-match': etag }
  let at = url
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
    // Each URL passes the guard.
    const answer = await client.request(at, { headers, bytesMax: ARCHIVE_BYTES_MAX })
    const { status, body } = answer
    if (status === 304 && etag !== undefined) return undefined
    if (status === 200) return { body, etag: headerOf(answer.headers.etag) }
    const location = headerOf(answer.headers.location)
    if (status < 300 || status > 399 || location === undefined || !URL.canParse(location, at)) {
      throw new DownloadFailedError(`${new URL(at).origin} answered with status ${status}`)
    }
    at = new URL(location, at).href
  }
  throw new DownloadFailedError(
    `${new URL(url).origin} redirected more than ${REDIRECTS_MAX} times`,
  )
}

function headerOf(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : value?.[0]
}

/** Starts the resolution of packages after imports, and the import from the URL of the setting. Read-only, it starts nothing. */
export function startOpamIndex(
  { db }: Stores,
  config: Config,
  log: Log,
  cleanup: CleanupStack,
): void {
  if (config.readOnly) return
  const resolution = startResolution(
    db,
    (lists) => log.info({ lists }, 'packages resolved again with a newer index of opam packages'),
    (error) => log.error({ err: error }, 'resolving packages failed, retrying'),
  )
  cleanup.defer(() => resolution.stop())
  if (config.opamUrl === undefined) return
  const client = createArchiveClient(config)
  const refresh = startIndexRefresh(
    db,
    config.opamUrl,
    client.download,
    ({ shown: _shown, ...counts }) => {
      log.info(counts, 'the index of opam packages was imported')
      resolution.poke()
    },
    (error) => log.error({ err: error }, 'importing the index of opam packages failed, retrying'),
  )
  cleanup.defer(() => refresh.stop())
  cleanup.defer(() => client.close())
}
