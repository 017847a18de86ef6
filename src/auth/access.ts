import { coversGlob, type Glob, matchesAnyGlob } from '../oci/glob.ts'
import type { Repository, Tag } from '../oci/reference.ts'

/**
 * The access that a route requires. `none`: nothing is checked. `publicRead`: anybody may call it, and the
 * lookup leaves out what the caller may not pull. `authenticated`: any credential, and the operation
 * decides what the caller may touch. `metrics`: the right to the metrics. `host`: only the host of the path itself. An
 * action: the right to it in the repository of the path, if any.
 */
export type Access = 'none' | 'publicRead' | 'authenticated' | 'metrics' | 'host' | Action

/** The actions in a repository. Each is granted by itself: none implies another. */
export const ACTIONS = ['pull', 'push', 'delete', 'admin'] as const
export type Action = (typeof ACTIONS)[number]

/** True for access that is an action in a repository. */
export function isAction(access: Access): access is Action {
  return ACTIONS.some((action) => action === access)
}

/** Actions in the repositories that match a pattern. */
export type Grant = {
  readonly repositories: readonly Glob[]
  /** `list` only shows the repositories in the catalog. `metrics` concerns the whole registry. */
  readonly actions: readonly (Action | 'list' | 'metrics')[]
  /** Patterns of the tags that may be set or removed. Null: any tag. */
  readonly tags: readonly Glob[] | null
}

/** A host that runs unikernels, as the caller of a request. */
export type HostCaller = {
  readonly id: number
  readonly name: string
  /** The version of its grant: a change of the grant ends the tokens of earlier ones. */
  readonly grantVersion: number
  /** False for a token with which the host only pulls. */
  readonly mayReport: boolean
}

export type CallerIdentity = {
  /** The name in the audit log and in events. */
  readonly actor: string
  /** The source of the rights, such as `credential:7`. Its revocation ends everything that came from it. */
  readonly origin: string | undefined
  /** `jti` of the token, if the caller presented one. */
  readonly tokenId: string | undefined
  /** `kid` of the key that signed the token. */
  readonly keyId: string | undefined
  /** How the caller was identified. `session`: by the cookie of a page. */
  readonly scheme: 'basic' | 'bearer' | 'session'
}

/** The caller of a request: anonymous, or the holder of a verified credential or token. */
export type Caller =
  | {
      readonly kind: 'anonymous'
      /** True with a token for anonymous callers: the client knows the token protocol. */
      readonly hasToken: boolean
    }
  | (CallerIdentity & { readonly kind: 'admin' })
  | (CallerIdentity & {
      readonly kind: 'holder'
      readonly grants: readonly Grant[]
      /** When the token expired. An expired token may only finish uploads. */
      readonly expiredAt: Date | undefined
      /** Present for a host. */
      readonly host?: HostCaller | undefined
    })

export const ANONYMOUS: Caller = { kind: 'anonymous', hasToken: false }

/**
 * The outcome of `decide`. `public-only` allows access to public repositories: the lookup itself leaves out
 * the others, so that the check costs no round trip of its own.
 */
export type Decision = 'allow' | 'public-only' | 'authenticate' | 'refuse'

/**
 * Decides on every request. A route without a repository concerns the whole registry. `host` is the name of the host in
 * the path of a route with the access `host`, for which nobody else may speak, not even an administrator.
 */
export function decide(
  access: Access,
  caller: Caller,
  repository: Repository | undefined,
  host?: string,
): Decision {
  if (access === 'host') return decideForHost(caller, host)
  if (access === 'none' || caller.kind === 'admin') return 'allow'
  if (access === 'publicRead') return 'public-only'
  if (access === 'authenticated') return caller.kind === 'holder' ? 'allow' : 'authenticate'
  if (access === 'metrics' && maySeeMetrics(caller)) return 'allow'
  if (repository === undefined) {
    if (access !== 'pull') return caller.kind === 'holder' ? 'refuse' : 'authenticate'
    return caller.kind === 'holder' || caller.hasToken ? 'public-only' : 'authenticate'
  }
  if (access !== 'metrics' && allows(caller, access, repository)) return 'allow'
  if (access === 'pull') return 'public-only'
  return caller.kind === 'holder' ? 'refuse' : 'authenticate'
}

function decideForHost(caller: Caller, name: string | undefined): Decision {
  if (caller.kind === 'anonymous') return 'authenticate'
  const host = caller.kind === 'holder' ? caller.host : undefined
  return host?.mayReport && host.name === name ? 'allow' : 'refuse'
}

/** The grant of a caller that reads the metrics and nothing else. */
export const METRICS_GRANT: Grant = { repositories: [], actions: ['metrics'], tags: null }

/** True when the caller may read the metrics. */
export function maySeeMetrics(caller: Caller): boolean {
  if (caller.kind !== 'holder') return caller.kind === 'admin'
  return caller.grants.some(({ actions }) => actions.includes('metrics'))
}

/** True when the caller was granted the action. Pulls from public repositories need no grant. */
export function allows(caller: Caller, action: Action, repository: Repository): boolean {
  return grantsFor(caller, action, repository) !== 'none'
}

/** True when the caller may set or remove the tag. */
export function allowsTag(
  caller: Caller,
  action: Action,
  repository: Repository,
  tag: Tag,
): boolean {
  const grants = grantsFor(caller, action, repository)
  if (typeof grants === 'string') return grants === 'all'
  return grants.some(({ tags }) => tags === null || matchesAnyGlob(tags, tag))
}

/** Returns the test for the tags that the caller may set or remove; undefined when it may every tag. */
export function tagBoundsOf(
  caller: Caller,
  action: Action,
  repository: Repository,
): ((tag: Tag) => boolean) | undefined {
  const grants = grantsFor(caller, action, repository)
  if (grants === 'all') return undefined
  if (grants !== 'none' && grants.some(({ tags }) => tags === null)) return undefined
  return (tag) => allowsTag(caller, action, repository, tag)
}

/** True when the caller was granted any action in the repository, so that its name is no secret. */
export function hasAnyAccess(caller: Caller, repository: Repository): boolean {
  return ACTIONS.some((action) => allows(caller, action, repository))
}

/**
 * True when the caller may see who works in the repository: the names of the credentials, tokens and policies that
 * change it. Any granted action is enough, and the public pull is not.
 */
export function maySeeActors(caller: Caller, repository: Repository): boolean {
  return hasAnyAccess(caller, repository)
}

/**
 * True when the caller may see on which hosts the images of the repository run, and what they report: it may push there or
 * administer it.
 */
export function maySeeHosts(caller: Caller, repository: Repository): boolean {
  return allows(caller, 'push', repository) || allows(caller, 'admin', repository)
}

/** True when the caller administers any repositories, so that it may have webhooks. */
export function administersAny(caller: Caller): boolean {
  return namesFor(caller, ['admin']).length > 0
}

/** True when the caller administers all repositories that match the patterns, and there all tags that match theirs. */
export function administersAll(
  caller: Caller,
  repositories: readonly Glob[],
  tags: readonly Glob[],
): boolean {
  if (caller.kind !== 'holder') return caller.kind === 'admin'
  const covers = (outer: readonly Glob[], inner: Glob) =>
    outer.some((one) => coversGlob(one, inner))
  const grants = caller.grants.filter(
    (grant) =>
      grant.actions.includes('admin') &&
      (grant.tags === null || tags.every((tag) => covers(grant.tags ?? [], tag))),
  )
  return repositories.every((glob) => grants.some((grant) => covers(grant.repositories, glob)))
}

/** Returns the patterns of the private repositories that the caller may pull from. */
export function pullablePatterns(caller: Caller): readonly Glob[] {
  return namesFor(caller, ['pull'])
}

/** Returns the patterns of the private repositories in the caller's catalog. */
export function listablePatterns(caller: Caller): readonly Glob[] {
  return namesFor(caller, ['pull', 'list'])
}

/** Returns the patterns of the repositories on whose hosts `maySeeHosts` is true. */
export function hostPatterns(caller: Caller): readonly Glob[] {
  return namesFor(caller, ['push', 'admin'])
}

/**
 * Returns the patterns of the repositories whose images are the caller's own: it may push there. An administrator
 * may push everywhere, and owns nothing by that.
 */
export function ownPatterns(caller: Caller): readonly Glob[] {
  return caller.kind === 'admin' ? [] : namesFor(caller, ['push'])
}

function namesFor(caller: Caller, needed: readonly (Action | 'list')[]): readonly Glob[] {
  if (caller.kind === 'admin') return ['**' as Glob]
  if (caller.kind === 'anonymous') return []
  return caller.grants
    .filter(({ actions }) => needed.some((action) => actions.includes(action)))
    .flatMap(({ repositories }) => repositories)
}

function grantsFor(
  caller: Caller,
  action: Action,
  repository: Repository,
): 'all' | 'none' | readonly Grant[] {
  if (caller.kind === 'admin') return 'all'
  if (caller.kind === 'anonymous') return 'none'
  const grants = caller.grants.filter(
    ({ actions, repositories }) =>
      actions.includes(action) && matchesAnyGlob(repositories, repository),
  )
  return grants.length === 0 ? 'none' : grants
}
