import type { Actor } from '../auth/audit.ts'

// The name of the administrator is reserved, so no other caller has it.
const ADMIN = 'admin'

/**
 * Returns the owner of the uploads that an actor starts: the source of its rights with its name. Tokens that the
 * operator issued have no source, and may share a name: each is an owner of its own. The tokens of the administrator
 * are one owner, because a client requests the next one during an upload.
 */
export function uploadOwnerOf({ name, origin, tokenId }: Actor): string {
  if (origin !== null) return `${origin} ${name}`
  return tokenId === null || name === ADMIN ? name : `token:${tokenId}`
}
