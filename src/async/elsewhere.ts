/** How many of a kind other processes of this server have, as they said a moment ago. */
export type Elsewhere = {
  /** Count of one client. */
  of(client: string): number
  /** Count of all clients. */
  readonly total: number
}

/** For a server that is one process. */
export const NOWHERE_ELSE: Elsewhere = { of: () => 0, total: 0 }

/** How many of a kind this process has: in total, and of each client that has any. */
export type Counted = {
  readonly total: number
  readonly byClient: Iterable<readonly [client: string, count: number]>
}
