import type { Repository } from '../oci/reference.ts'

/** What a route needs. `none` is for everybody; the others mean the repository of the path, if any. */
export type Access = 'none' | 'pull' | 'push' | 'delete' | 'admin'

/** Who asks: nobody in particular, or the holder of a verified credential. */
export type Caller =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'admin'; readonly actor: string }

/**
 * `public-only` allows what concerns public repositories: the lookup itself must leave out the
 * others, so that the question costs no round trip of its own.
 */
export type Decision = 'allow' | 'public-only' | 'authenticate'

/** The one decision about every request. A pull without a repository is a look at the registry. */
export function decide(
  access: Access,
  caller: Caller,
  repository: Repository | undefined,
): Decision {
  if (access === 'none') return 'allow'
  if (caller.kind === 'admin') return 'allow'
  if (access === 'pull' && repository !== undefined) return 'public-only'
  return 'authenticate'
}
