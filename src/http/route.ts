import type { Context } from 'koa'
import type { Access, Caller } from '../auth/access.ts'
import { invalidQuery } from '../oci/errors.ts'
import type { Repository, Tag } from '../oci/reference.ts'
import type { Actor, View } from '../registry/view.ts'
import type { RequestBody } from './request-body.ts'

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** A route is a row; tests read the rows. */
export type Route = {
  /** The endpoints of the distribution spec that it is, such as `end-2`. */
  readonly spec?: readonly string[]
  readonly method: Method
  readonly path: string
  readonly access: Access
  /** The tags that it sets or removes: the caller must be allowed each. */
  tags?(ctx: RouteContext): readonly Tag[]
  /** What a token must be asked for, when that is no repository. */
  readonly scope?: string
  /** True for what may be finished with a token that has expired meanwhile. */
  readonly allowsExpiredToken?: true
  handle(ctx: RouteContext): Promise<void> | void
}

/** What authorization leaves for the handler. */
export type RouteState = {
  caller: Caller
  params: Readonly<Record<string, string>>
  repository: Repository | undefined
  /** True when only what is public may be seen. */
  publicOnly: boolean
  body: RequestBody
  /** Those to which the caller is bound; undefined: none. */
  networks: readonly string[] | undefined
  requestId: string
  /** The client's, seen through trusted proxies. */
  address: string
}

export type RouteContext = Context & { state: RouteState }

/** A parameter of the route's path, decoded. */
export function param(ctx: RouteContext, name: string): string {
  const value = ctx.state.params[name]
  if (value === undefined) throw new Error(`the route has no :${name}`)
  return value
}

/** The repository of the path. */
export function repositoryOf(ctx: RouteContext): Repository {
  const { repository } = ctx.state
  if (repository === undefined) throw new Error('the route has no *repository')
  return repository
}

/** What this caller can see of the repository of the path. */
export function viewOf(ctx: RouteContext): View {
  return { repository: repositoryOf(ctx), publicOnly: ctx.state.publicOnly }
}

/** Who is recorded as having done it. */
export function actorOf(ctx: RouteContext): Actor {
  const { caller, address, requestId } = ctx.state
  if (caller.kind === 'anonymous') throw new Error('the route let an anonymous caller write')
  const { actor: name, origin = null, tokenId = null } = caller
  return { name, origin, tokenId, address, requestId }
}

/** A query parameter that may stand once. Throws QUERY_INVALID. */
export function queryOnce(ctx: RouteContext, name: string): string | undefined {
  const values = queryAll(ctx, name)
  if (values.length > 1) {
    throw invalidQuery(`${name} is given twice`, { [name]: values.length })
  }
  return values[0]
}

/** Every value of a query parameter, in order. Throws QUERY_INVALID for a character nobody means. */
export function queryAll(ctx: RouteContext, name: string): string[] {
  if (!ctx.querystring) return []
  const values = new URLSearchParams(ctx.querystring).getAll(name)
  if (values.some((value) => value.includes('\0'))) {
    throw invalidQuery(`${name} contains a NUL character`, { parameter: name })
  }
  return values
}
