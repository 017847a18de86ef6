import type { Digest } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'

/** What must hold before a change: RFC 9110, section 13.1, with digests as entity tags. */
export type Precondition =
  | { readonly kind: 'none' }
  /** If-Match: one of these, or anything at all for `*`. */
  | { readonly kind: 'match'; readonly digests: readonly string[] | '*' }
  /** If-None-Match: none of these, or nothing at all for `*`. */
  | { readonly kind: 'none-match'; readonly digests: readonly string[] | '*' }

/** Throws PRECONDITION_FAILED, naming the digest that is there now. */
export function assertPrecondition(condition: Precondition, current: Digest | undefined): void {
  if (condition.kind === 'none') return
  const { digests } = condition
  const matches = current !== undefined && (digests === '*' || digests.includes(current))
  if (matches !== (condition.kind === 'match')) {
    throw new RegistryError('PRECONDITION_FAILED', { current: current ?? null })
  }
}
