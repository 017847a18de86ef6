import { type Access, type Caller, isAction, maySeeMetrics } from '../auth/access.ts'
import { withoutHiddenCharacters } from '../oci/hidden-characters.ts'
import type { Repository } from '../oci/reference.ts'

// A grant may have a hundred patterns of 255 characters.
const SHOWN_MAX = 3
const GRANTS_CHARACTERS_MAX = 300
const NAME_CHARACTERS_MAX = 80

/** Says to an anonymous caller which access needs a login. It says nothing about content that exists. */
export function loginNeeded(access: Access, repository: Repository | undefined): string {
  if (repository !== undefined && isAction(access)) {
    return `authentication required: ${access} in ${repository} needs a login`
  }
  if (access === 'admin') return 'authentication required: this needs an administrator'
  if (access === 'host') {
    return 'authentication required: this needs a token of the host, which it gets from /token with an assertion of its key'
  }
  if (access === 'metrics') {
    return 'authentication required: this needs a credential for the metrics, which rookery credential create NAME --metrics makes'
  }
  return 'authentication required'
}

/**
 * Says that the caller can pull nothing: the same text for a missing repository and for a private one, because it
 * depends on the caller and the name alone.
 */
export function nothingToPull(caller: Caller, repository: Repository): string {
  return caller.kind === 'anonymous'
    ? `authentication required: there is no public repository ${repository}, or it needs a login`
    : `there is no public repository ${repository}, and ${missingRight(caller, 'pull', repository)}`
}

/** Names the right that the caller does not have, and those that it has. */
export function missingRight(
  caller: Caller,
  access: Access,
  repository: Repository | undefined,
  tag?: string,
): string {
  return `${holderOf(caller)} ${rightText(caller, access, repository, tag)}: ${grantsText(caller)}`
}

/** Says that a caller is bounded to some tags, and to which. */
export function boundedTo(caller: Caller): string {
  return `${holderOf(caller)} is for some tags only: ${grantsText(caller)}`
}

function rightText(
  caller: Caller,
  access: Access,
  repository: Repository | undefined,
  tag: string | undefined,
): string {
  if (access === 'host') return 'may not speak as this host, which only a token of its own key may'
  if (access === 'metrics') {
    return 'may not read the metrics; rookery credential create NAME --metrics makes one that may'
  }
  if (repository === undefined) return 'may not do this, which needs an administrator'
  if (tag !== undefined) return `may not ${access} tag ${tag} in ${repository}`
  return isToken(caller)
    ? `does not cover ${access} in ${repository}`
    : `may not ${access} in ${repository}`
}

function isToken(caller: Caller): boolean {
  return caller.kind !== 'anonymous' && caller.tokenId !== undefined
}

/** Names the credential or token of a caller. */
function holderOf(caller: Caller): string {
  if (caller.kind === 'anonymous') return 'an anonymous caller'
  const name = withoutHiddenCharacters(caller.actor.replace(/\p{Cc}/gu, ''))
  const kind = isToken(caller) ? 'token of' : 'credential'
  return `the ${kind} ${name.slice(0, NAME_CHARACTERS_MAX)}`
}

/** Names the caller's own grants: `it is for builds/** (pull, push)`. */
function grantsText(caller: Caller): string {
  if (caller.kind !== 'holder') return 'it has no grant'
  const texts = caller.grants.flatMap(({ repositories, actions, tags }) => {
    const granted = actions.filter((action) => action !== 'list')
    if (granted.length === 0 || repositories.length === 0) return []
    const bounds = tags === null ? '' : `; tags ${someOf(tags)}`
    return [`${someOf(repositories)} (${granted.join(', ')}${bounds})`]
  })
  if (texts.length === 0) {
    if (maySeeMetrics(caller)) return 'it is for the metrics'
    return isToken(caller)
      ? 'it has no access to a repository, because its holder has none there or requested none'
      : 'it has no access to a repository'
  }
  const text = `it is for ${someOf(texts)}`
  return text.length > GRANTS_CHARACTERS_MAX ? `${text.slice(0, GRANTS_CHARACTERS_MAX)}…` : text
}

function someOf(texts: readonly string[]): string {
  const more = texts.length - SHOWN_MAX
  return `${texts.slice(0, SHOWN_MAX).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}
