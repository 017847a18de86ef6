import { type Glob, matchesAnyGlob, postgresRegexOf } from '../oci/glob.ts'
import type { Repository, Tag } from '../oci/reference.ts'

/**
 * What a route needs. `none` is for everybody; `look` too, but what is answered depends on who asks:
 * the lookup leaves out what they may not pull. `manage` is for whoever has a credential: the operation
 * itself decides what of it they may touch. The others mean the repository of the path, if any.
 */
export type Access = 'none' | 'look' | 'manage' | Action

/** What may be done in a repository. Each is given by itself: none implies another. */
export const ACTIONS = ['pull', 'push', 'delete', 'admin'] as const
export type Action = (typeof ACTIONS)[number]

/** What somebody may do where. */
export type Grant = {
  readonly repositories: readonly Glob[]
  /** `list` only lets the repositories be seen in the catalog. */
  readonly actions: readonly (Action | 'list')[]
  /** Which tags may be set or removed; null: any. */
  readonly tags: readonly Glob[] | null
}

export type CallerIdentity = {
  /** Who is recorded as having done it. */
  readonly actor: string
  /** What the right comes from, such as `credential:7`: revoked, it takes everything along. */
  readonly origin: string | undefined
  /** `jti`, when it came as a token. */
  readonly tokenId: string | undefined
  readonly scheme: 'basic' | 'bearer'
}

/** Who asks: nobody in particular, or the holder of a verified credential or token. */
export type Caller =
  | {
      readonly kind: 'anonymous'
      /** True for a token that anybody gets: it is known to speak our protocol. */
      readonly hasToken: boolean
    }
  | (CallerIdentity & { readonly kind: 'admin' })
  | (CallerIdentity & {
      readonly kind: 'holder'
      readonly grants: readonly Grant[]
      /** When the token expired. It then serves to finish uploads, and for nothing else. */
      readonly expiredAt: Date | undefined
    })

export const ANONYMOUS: Caller = { kind: 'anonymous', hasToken: false }

/**
 * `public-only` allows what concerns public repositories: the lookup itself must leave out the
 * others, so that the question costs no round trip of its own.
 */
export type Decision = 'allow' | 'public-only' | 'authenticate' | 'refuse'

/** The one decision about every request. A route without a repository concerns the registry. */
export function decide(
  access: Access,
  caller: Caller,
  repository: Repository | undefined,
): Decision {
  if (access === 'none' || caller.kind === 'admin') return 'allow'
  if (access === 'look') return 'public-only'
  if (access === 'manage') return caller.kind === 'holder' ? 'allow' : 'authenticate'
  if (repository === undefined) {
    if (access !== 'pull') return caller.kind === 'holder' ? 'refuse' : 'authenticate'
    return caller.kind === 'holder' || caller.hasToken ? 'public-only' : 'authenticate'
  }
  if (allows(caller, access, repository)) return 'allow'
  if (access === 'pull') return 'public-only'
  return caller.kind === 'holder' ? 'refuse' : 'authenticate'
}

/** True when the caller was given this right; what is public needs none. */
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

/** True when the caller may do anything at all there, so that its name is no secret. */
export function hasAnyAccess(caller: Caller, repository: Repository): boolean {
  return ACTIONS.some((action) => allows(caller, action, repository))
}

/** Which private repositories the caller may pull from: expressions of Postgres for their names. */
export function pullablePatterns(caller: Caller): string[] {
  return namesFor(caller, ['pull'])
}

/** Which private repositories the caller may see in the catalog: expressions of Postgres. */
export function listablePatterns(caller: Caller): string[] {
  return namesFor(caller, ['pull', 'list'])
}

function namesFor(caller: Caller, needed: readonly (Action | 'list')[]): string[] {
  if (caller.kind === 'admin') return ['']
  if (caller.kind === 'anonymous') return []
  return caller.grants
    .filter(({ actions }) => needed.some((action) => actions.includes(action)))
    .flatMap(({ repositories }) => repositories.map(postgresRegexOf))
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
