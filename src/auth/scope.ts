import { type Glob, matchesAnyGlob } from '../oci/glob.ts'
import type { Repository } from '../oci/reference.ts'
import { parseRepository } from '../oci/reference.ts'
import {
  ACTIONS,
  type Action,
  type Caller,
  type Grant,
  METRICS_GRANT,
  maySeeMetrics,
} from './access.ts'

/** A resource scope of the token protocol (distribution, "Token Scope Documentation"). */
export type Scope = {
  readonly type: string
  readonly name: string
  readonly actions: readonly string[]
}

/** One entry of a token's `access` claim. */
export type AccessEntry = {
  readonly type: 'repository' | 'registry' | 'host'
  /** A repository or a pattern of repositories; for `registry`, `catalog`, `metrics` or `admin`; the name of a host. */
  readonly name: string
  readonly actions: readonly string[]
  /** Patterns of the tags that may be set or removed. Undefined: any tag. */
  readonly tags?: readonly string[]
  /** For the catalog: patterns of the private repositories in it. */
  readonly repositories?: readonly string[]
  /** True for a pull that the public visibility permits. It ends with the visibility. */
  readonly public?: true
  /** For a host: the version of its grant. */
  readonly grantVersion?: number
}

const SCOPE = /^([a-z]+)(?:\([a-z0-9]+\))?:([^\s]*):([a-z*,]*)$/
const SCOPES_MAX = 100
/** The actions of `*`. */
const WILDCARD_ACTIONS: readonly Action[] = ['pull', 'push', 'delete']

/**
 * Parses `scope` parameters. Each may have several scopes, separated by spaces. Scopes of one resource become one, because
 * clients ask for a repository twice (`pull`, then `pull,push`). Malformed scopes and those after the first 100 are
 * ignored: a request for too much is never an error.
 */
export function parseScopes(texts: readonly string[]): Scope[] {
  const resources = new Map<string, Scope>()
  for (const text of texts.flatMap((one) => one.split(' ')).slice(0, SCOPES_MAX)) {
    const match = SCOPE.exec(text)
    if (match === null) continue
    const [, type = '', name = '', list = ''] = match
    const resource = `${type}:${name}`
    const before = resources.get(resource)?.actions ?? []
    const added = list.split(',').filter((action) => action !== '')
    resources.set(resource, { type, name, actions: [...new Set([...before, ...added])] })
  }
  return [...resources.values()]
}

/** Returns the requested access that the caller has. `isPublic` is true for public repositories. */
export function intersect(
  scopes: readonly Scope[],
  caller: Caller,
  isPublic: (name: string) => boolean,
): AccessEntry[] {
  return scopes.flatMap(({ type, name, actions }): AccessEntry[] => {
    if (type === 'registry') return registryEntries(name, actions, caller)
    if (type === 'host') return hostEntries(caller, name, actions)
    if (type !== 'repository') return []
    const repository = repositoryNamed(name)
    if (repository === undefined) return []
    const requested = actions.includes('*')
      ? [...new Set([...actions, ...WILDCARD_ACTIONS])]
      : actions
    const entries = grantedEntries(repository, requested, caller)
    const pulls = entries.some((entry) => entry.actions.includes('pull'))
    if (requested.includes('pull') && !pulls && isPublic(name)) {
      entries.push({ type: 'repository', name, actions: ['pull'], public: true })
    }
    return entries
  })
}

/** Returns the repositories that the scopes name. */
export function repositoriesOf(scopes: readonly Scope[]): Repository[] {
  const names = scopes.filter(({ type }) => type === 'repository').map(({ name }) => name)
  return [...new Set(names)].map(repositoryNamed).filter((name) => name !== undefined)
}

/** Returns the grants of a token's `access` claim. */
export function grantsOf(entries: readonly AccessEntry[]): Grant[] {
  return entries.flatMap((entry): Grant[] => {
    if (entry.public) return []
    if (entry.type === 'repository') {
      const actions = ACTIONS.filter((action) => entry.actions.includes(action))
      const tags = entry.tags === undefined ? null : (entry.tags as Glob[])
      return [{ repositories: [entry.name as Glob], actions, tags }]
    }
    if (entry.type === 'host') return []
    if (entry.name === 'metrics') return [METRICS_GRANT]
    if (entry.name !== 'catalog') return []
    return [{ repositories: (entry.repositories ?? []) as Glob[], actions: ['list'], tags: null }]
  })
}

function registryEntries(name: string, actions: readonly string[], caller: Caller): AccessEntry[] {
  if (!actions.includes('*')) return []
  if (name === 'catalog') {
    const repositories = listedBy(caller)
    return [{ type: 'registry', name, actions: ['*'], repositories }]
  }
  const mayHave =
    name === 'admin' ? caller.kind === 'admin' : name === 'metrics' && maySeeMetrics(caller)
  return mayHave ? [{ type: 'registry', name, actions: ['*'] }] : []
}

/** A host may request the right to report about itself, which a token for its pulls does not have. */
function hostEntries(caller: Caller, name: string, actions: readonly string[]): AccessEntry[] {
  const host = caller.kind === 'holder' ? caller.host : undefined
  if (!host?.mayReport || host.name !== name || !actions.includes('report')) return []
  return [{ type: 'host', name, actions: ['report'], grantVersion: host.grantVersion }]
}

function listedBy(caller: Caller): string[] {
  if (caller.kind === 'admin') return ['**']
  if (caller.kind === 'anonymous') return []
  return caller.grants
    .filter(({ actions }) => actions.includes('pull') || actions.includes('list'))
    .flatMap(({ repositories }) => [...repositories])
}

function grantedEntries(
  name: Repository,
  requested: readonly string[],
  caller: Caller,
): AccessEntry[] {
  if (caller.kind === 'anonymous') return []
  const wanted = ACTIONS.filter((action) => requested.includes(action))
  if (caller.kind === 'admin') {
    return wanted.length === 0 ? [] : [{ type: 'repository', name, actions: wanted }]
  }
  return caller.grants
    .filter(({ repositories }) => matchesAnyGlob(repositories, name))
    .map((grant): AccessEntry => {
      const actions = wanted.filter((action) => grant.actions.includes(action))
      const tags = grant.tags === null ? {} : { tags: grant.tags }
      return { type: 'repository', name, actions, ...tags }
    })
    .filter(({ actions }) => actions.length > 0)
}

function repositoryNamed(name: string): Repository | undefined {
  try {
    return parseRepository(name)
  } catch {
    // A name that cannot be a repository here: nothing can be granted on it.
    return undefined
  }
}
