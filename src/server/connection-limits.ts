import { readFile } from 'node:fs/promises'
import type { Config } from '../config/config.ts'
import type { ConnectionLimits } from '../http/open-connections.ts'
import { StartError } from './cleanup.ts'

const CONNECTIONS_MAX = 20_000
/** For where the limit of descriptors cannot be read. */
const DESCRIPTORS_DEFAULT = 4096
/** A connection, and the file or the connection to the object store that serves it. */
const DESCRIPTORS_A_CONNECTION = 2
/** The log, the listener, the event loop, the connections to the object store, and a part of the webhooks. */
const RESERVED_DESCRIPTORS = 100
const CONNECTIONS_MIN = 10

/** `waiting`: the hosts that wait, and as many other requests that wait or are streams. */
export type Limits = ConnectionLimits & { readonly waiting: number }

/**
 * Returns the limits of the open connections. The total follows from the limit of file descriptors. No client takes more
 * than half of it, and neither do hosts that wait. Throws StartError when the limit of descriptors is too low.
 */
export async function connectionLimits(config: Config): Promise<Limits> {
  const descriptors = (await readDescriptorLimit()) ?? DESCRIPTORS_DEFAULT
  const reserved = RESERVED_DESCRIPTORS + config.databaseConnectionsMax
  const possible = Math.floor((descriptors - reserved) / DESCRIPTORS_A_CONNECTION)
  if (possible < CONNECTIONS_MIN) {
    const needed = reserved + DESCRIPTORS_A_CONNECTION * CONNECTIONS_MIN
    throw new StartError(
      `the process may open ${descriptors} files, and needs at least ${needed}: raise the limit (ulimit -n)`,
    )
  }
  const total = Math.min(possible, config.connectionsMax ?? CONNECTIONS_MAX)
  // Clients of the feed have a limit of their own.
  const perClient = config.connectionsPerAddress + config.feedClientsPerAddress
  const half = Math.max(1, Math.floor(total / 2))
  return {
    total,
    perClient: Math.min(perClient, half),
    waiting: half,
    slowMilliseconds: config.slowClientSeconds * 1000,
  }
}

/** Returns undefined on systems without /proc. */
async function readDescriptorLimit(): Promise<number | undefined> {
  const text = await readFile('/proc/self/limits', 'utf8').catch(() => '')
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(text)?.[1]
  if (soft === undefined) return undefined
  return soft === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(soft)
}
