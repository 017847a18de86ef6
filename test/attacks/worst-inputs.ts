import type { TestRegistry } from '../support/registry.ts'

export const HEAVY = 'heavy/images'
export const MANY = 'heavy/many'
const BODY_BYTES_MAX = 64 * 1024
// The headers of a request have at most 64 KiB.
export const LONG_QUERY = 'a=%41&'.repeat(10_000)
export const JSON_BODY = { 'content-type': 'application/json' }

/** A request that costs as much as its route allows. */
export type WorstInput = {
  readonly what: string
  readonly statuses: readonly number[]
  send(): Promise<Response>
}

/** Worst inputs by method and path of their route. */
export type WorstInputs = Readonly<Record<string, readonly WorstInput[]>>

let count = 0

/** Returns a name that was not used before. */
export function nextName(): string {
  count += 1
  return `n${count}`
}

/** Returns the options of a request with a binary body. */
export function octets(body: Buffer): RequestInit {
  return { headers: { 'content-type': 'application/octet-stream' }, body: new Uint8Array(body) }
}

export function input(
  what: string,
  send: () => Promise<Response>,
  ...statuses: readonly number[]
): WorstInput {
  return { what, send, statuses: statuses.length === 0 ? [200] : statuses }
}

/** Adds unknown parameters to a query, where the route ignores them. */
function withLongQuery(path: string): string {
  if (/^\/(?:api|upload)\//.test(path)) return path
  return `${path}${path.includes('?') ? '&' : '?'}${LONG_QUERY}`
}

/** The ways to send a request that costs much on many routes. */
export function costlyRequests(registry: TestRegistry) {
  return {
    read: (path: string, ...statuses: number[]) =>
      input('a long query', () => registry.request(withLongQuery(path)), ...statuses),
    send: (method: string, path: string, ...statuses: number[]) =>
      input('a long query', () => registry.request(withLongQuery(path), { method }), ...statuses),
    json: (method: string, path: string, body: () => object, ...statuses: number[]) =>
      input(
        'a large body',
        () => registry.request(path, { method, headers: JSON_BODY, body: JSON.stringify(body()) }),
        ...statuses,
      ),
    deep: (method: string, path: string) =>
      input(
        'a deep body',
        () =>
          registry.request(path, {
            method,
            headers: JSON_BODY,
            body: `{"x":${'['.repeat(BODY_BYTES_MAX / 2 - 4)}${']'.repeat(BODY_BYTES_MAX / 2 - 4)}}`,
          }),
        400,
        404,
      ),
  }
}
