import type { RouteContext } from './route.ts'
import type { TraceContext } from './trace-context.ts'

/** The ids by which log lines of one request are found. */
export type RequestIds = TraceContext & { readonly requestId: string }

/** One answered request, for the metrics and the access log. */
export type Observation = {
  readonly method: string
  /** The path pattern of the route, so that the number of metrics does not grow with the requests. */
  readonly route: string
  readonly status: number
  readonly seconds: number
  /** Bytes of the request's body that were read. */
  readonly bytesReceived: number
  /** Bytes of the response's body. */
  readonly bytesSent: number
  /** True for every method but GET and HEAD. */
  readonly isWrite: boolean
  /** Returns the ids, which only the access log has. */
  ids(): RequestIds
  /** Returns what only the access log has. It takes time, and most requests are not logged. */
  describe(): Description
}

/** The request of a client, without secrets. */
export type Description = {
  readonly path: string
  readonly address: string
  readonly actor: string | undefined
  readonly userAgent: string | undefined
}

export const READS: ReadonlySet<string> = new Set(['GET', 'HEAD'])

/** Observes a request whose handler has ended. */
export function observationOf(
  ctx: RouteContext,
  request: {
    readonly ids: () => RequestIds
    readonly route: string
    readonly path: string
    readonly address: string
    /** As of `performance.now()`. */
    readonly startedAt: number
  },
): Observation {
  const { ids, route, path, address, startedAt } = request
  const { caller, body } = ctx.state
  return {
    method: ctx.method,
    route,
    status: ctx.status,
    seconds: (performance.now() - startedAt) / 1000,
    bytesReceived: body?.received ?? 0,
    bytesSent: bytesSentOf(ctx),
    isWrite: !READS.has(ctx.method),
    ids,
    describe: () => ({
      path: withoutSecrets(path),
      address,
      actor: caller === undefined || caller.kind === 'anonymous' ? undefined : caller.actor,
      userAgent: printable(ctx.headers['user-agent']),
    }),
  }
}

function bytesSentOf(ctx: RouteContext): number {
  // The handler sent the body itself.
  if (ctx.respond === false) return ctx.state.bytesSent ?? 0
  return ctx.method === 'HEAD' ? 0 : (ctx.length ?? 0)
}

const SECRETS = /^\/+upload\/.*|rk[a-z]_[\w-]+/gi

const ENCODED_ASCII = /%([2-7][0-9a-f])/gi

/** Replaces the secrets in a path, also percent-encoded ones, so that the path can be logged. */
function withoutSecrets(path: string): string {
  if (!path.includes('%')) return path.replace(SECRETS, '…')
  const plain = path.replace(ENCODED_ASCII, (_, hex) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )
  const redacted = plain.replace(SECRETS, '…')
  return redacted === plain ? path : redacted
}

const USER_AGENT_CHARACTERS_MAX = 200

/** Returns a header as one short line of ASCII without secrets: other bytes are escaped, such as `\xe9`. */
function printable(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  const redacted = header.replace(SECRETS, '…')
  const shown =
    redacted.length > USER_AGENT_CHARACTERS_MAX
      ? `${redacted.slice(0, USER_AGENT_CHARACTERS_MAX)}…`
      : redacted
  return shown.replace(
    /[^ -~…]/g,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}
