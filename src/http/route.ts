import type { Context } from 'koa'
import type { Access, Caller, HostCaller } from '../auth/access.ts'
import type { Actor } from '../auth/audit.ts'
import { invalidQuery } from '../oci/errors.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import type { View } from '../registry/repositories.ts'
import type { QueryParameters } from './query.ts'
import type { RequestBody } from './request-body.ts'

/**
 * The statements of a route that reads. `nothing`: none, or a check of the whole registry. `rows`: a fixed number of
 * rows by their keys, such as a name, a tag or a digest, on the connections of the registry. `question`: anything
 * else, on the connections for questions.
 */
export type Reads = 'nothing' | 'rows' | 'question'

type Read = { readonly method: 'GET' | 'HEAD'; readonly reads: Reads }
type Write = { readonly method: 'POST' | 'PUT' | 'PATCH' | 'DELETE' }

/** A route: one row of the table that the app serves. Tests read the table. */
export type Route = (Read | Write) & {
  /** The endpoints of the spec that it implements, such as `end-2`. */
  readonly spec?: readonly string[]
  readonly path: string
  readonly access: Access
  /**
   * The query parameters that it takes; without this field none. Others are 400. `any`: it ignores others, because
   * clients of a protocol that is not ours send some of their own.
   */
  readonly query?: 'any' | QueryParameters
  /** Returns the tags that it sets or removes: the caller needs permission for each. */
  tags?(ctx: RouteContext): readonly Tag[]
  /** True for a change of the whole repository: the caller needs permission for every tag. */
  readonly changesEveryTag?: true
  /** The token scope that it needs, when that is not the scope of the repository. */
  readonly scope?: string
  /** True when anonymous callers may not call it, although its access does not exclude them. */
  readonly needsLogin?: true
  /** True for a step of an upload, which an expired token may finish. */
  readonly allowsExpiredToken?: true
  /**
   * True for a page for people: it accepts the cookie of a session, an anonymous caller who needs a login is sent to the form,
   * and errors are pages.
   */
  readonly page?: true
  /** True for a GET with an effect, which a page of another site may not cause. */
  readonly hasEffect?: true
  /** True for a push, which needs space in the store or in the database. */
  readonly storesContent?: true
  /** True for a write that goes on while the registry is read-only: a login, the end of a right, or a question. */
  readonly inReadOnlyMode?: true
  /** Set by `hotRoute`. */
  readonly isHot?: true
  handle(ctx: RouteContext): Promise<void> | void
}

/** Data of the request that authorization provides to the handler. */
export type RouteState = {
  caller: Caller
  params: Readonly<Record<string, string>>
  repository: Repository | undefined
  /** True when the caller may see public repositories only. */
  publicOnly: boolean
  body: RequestBody
  /** Bytes of the response's body, when the handler sends it itself. */
  bytesSent: number
  /** The networks from which the caller's credential may be used; undefined for any. */
  networks: readonly string[] | undefined
  /** The caller, on a route with the access `host`. */
  host: Pick<HostCaller, 'id' | 'name'> | undefined
  requestId: string
  /** The client's address, behind trusted proxies. */
  address: string
  /**
   * For an answer that takes long: resolves to false when the credential, token or session of the request is no longer valid.
   * Throws what the authentication of a request throws.
   */
  isAuthenticated(): Promise<boolean>
}

export type RouteContext = Context & { state: RouteState }

/** The fields of Koa's context that the handler of a hot route may use: `HotContext` has them. */
export type HotRouteContext = Pick<
  RouteContext,
  | 'req'
  | 'res'
  | 'method'
  | 'path'
  | 'querystring'
  | 'headers'
  | 'status'
  | 'body'
  | 'length'
  | 'respond'
  | 'state'
  | 'set'
>

type HotRoute = Omit<Route & Read, 'handle' | 'isHot'> & {
  handle(ctx: HotRouteContext): Promise<void> | void
}

/** Returns the row of a route that nearly all requests ask for: they are answered without Koa. */
export function hotRoute(row: HotRoute): Route {
  return { ...row, isHot: true }
}

/** Returns a decoded parameter of the route's path. */
export function param(ctx: HotRouteContext, name: string): string {
  const value = ctx.state.params[name]
  if (value === undefined) throw new Error(`the route has no :${name}`)
  return value
}

/** Returns the repository of the path. */
export function repositoryOf(ctx: HotRouteContext): Repository {
  const { repository } = ctx.state
  if (repository === undefined) throw new Error('the route has no *repository')
  return repository
}

/** Returns the host that calls, on a route with the access `host`. */
export function hostOf(ctx: RouteContext): Pick<HostCaller, 'id' | 'name'> {
  const { host } = ctx.state
  if (host === undefined) throw new Error('the route has no access host')
  return host
}

/** Returns the view that the caller has of the repository of the path. */
export function viewOf(ctx: HotRouteContext): View {
  return { repository: repositoryOf(ctx), publicOnly: ctx.state.publicOnly }
}

/** Returns the actor that events and the audit log record. */
export function actorOf(ctx: RouteContext): Actor {
  const { caller, address, requestId } = ctx.state
  if (caller.kind === 'anonymous') throw new Error('the route let an anonymous caller write')
  const { actor: name, origin = null, tokenId = null, keyId = null } = caller
  return { name, origin, tokenId, keyId, address, requestId }
}

/** Returns a query parameter that may be given once. Throws QUERY_INVALID. */
export function queryOnce(ctx: RouteContext, name: string): string | undefined {
  const values = queryAll(ctx, name)
  if (values.length > 1) {
    throw invalidQuery(`${name} is given twice`, { [name]: values.length })
  }
  return values[0]
}

/** Returns all values of a query parameter, in order. Throws QUERY_INVALID for a NUL character. */
export function queryAll(ctx: RouteContext, name: string): string[] {
  if (!ctx.querystring) return []
  const values = new URLSearchParams(ctx.querystring).getAll(name)
  if (values.some((value) => value.includes('\0'))) {
    throw invalidQuery(`${name} contains a NUL character`, { parameter: name })
  }
  return values
}
