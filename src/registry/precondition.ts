import type { Digest } from '../oci/digest.ts'
import { RegistryError } from '../oci/errors.ts'

/** A condition on the current state of a resource: RFC 9110, section 13.1, with digests as entity tags. */
export type Precondition =
  | { readonly kind: 'none' }
  /** If-Match: the digest is one of these; `*`: the resource exists. */
  | { readonly kind: 'match'; readonly digests: readonly string[] | '*' }
  /** If-None-Match: the digest is none of these; `*`: the resource does not exist. */
  | { readonly kind: 'none-match'; readonly digests: readonly string[] | '*' }

/** Throws PRECONDITION_FAILED with the current digest. */
export function assertPrecondition(precondition: Precondition, current: Digest | undefined): void {
  if (precondition.kind === 'none') return
  const { digests } = precondition
  const matches = current !== undefined && (digests === '*' || digests.includes(current))
  if (matches !== (precondition.kind === 'match')) {
    const message = `the precondition does not hold: the digest is ${current ?? 'none'} now`
    throw new RegistryError('PRECONDITION_FAILED', { current: current ?? null }, { message })
  }
}
