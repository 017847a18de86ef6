import type { TrustPolicyRow } from '../../db/auth/trust-policies.ts'
import type { Glob } from '../../oci/glob.ts'
import { type Conditions, claimTexts, conditionHolds } from './conditions.ts'
import { audiencesOf, type IdentityToken, InvalidIdentityTokenError } from './identity-token.ts'
import { IssuerUnavailableError } from './issuer-keys.ts'
import { findBindingProblem } from './shared-issuers.ts'

/** One check of an identity token against a policy, to explain why an exchange is refused. */
export type PolicyCheck = {
  readonly check: 'issuer' | 'signature' | 'time' | 'audience' | 'binding' | 'condition'
  /** The claim of a condition. */
  readonly claim: string | null
  readonly holds: boolean
  /** The values that the policy accepts. */
  readonly wanted: readonly string[]
  /** The values in the token. */
  readonly found: readonly string[]
  /** The reason for a failure that `wanted` and `found` do not show. */
  readonly problem: string | null
}

const SHOWN_MAX = 20
const SHOWN_LENGTH_MAX = 256

/**
 * Checks issuer, audience and conditions of a policy, and that the conditions name an owner: a stored policy may be
 * older than this rule. The signature is checked elsewhere.
 */
export function policyChecks(policy: TrustPolicyRow, token: IdentityToken): PolicyCheck[] {
  const { issuer, audience, conditions } = policy
  const audiences = audiencesOf(token)
  return [
    compared('issuer', token.issuer === issuer, [issuer], [token.issuer]),
    compared('audience', audiences.includes(audience), [audience], audiences),
    ...bindingChecks(policy),
    ...Object.entries(conditions).map(([claim, texts]) => {
      const globs = texts as readonly Glob[]
      const found = claimTexts(token.claims, claim)
      return compared('condition', conditionHolds(token.claims, claim, globs), globs, found, claim)
    }),
  ]
}

/** Returns the parts that say whom a policy accepts. */
export function bindingOf({ issuer, conditions }: Pick<TrustPolicyRow, 'issuer' | 'conditions'>): {
  readonly issuer: string
  readonly conditions: Conditions
} {
  return { issuer, conditions: conditions as Conditions }
}

/** Returns a failed check, or none. */
function bindingChecks(policy: TrustPolicyRow): PolicyCheck[] {
  const problem = findBindingProblem(bindingOf(policy))
  if (problem === undefined) return []
  return [{ check: 'binding', claim: null, holds: false, wanted: [], found: [], problem }]
}

/** Returns a check that is the same for every policy. `problem` is its error text, if it failed. */
export function tokenCheck(check: 'signature' | 'time', problem: string | undefined): PolicyCheck {
  const holds = problem === undefined
  return { check, claim: null, holds, wanted: [], found: [], problem: problem ?? null }
}

/** Returns the error text of a failed verification. Throws errors that are not about the token or its issuer. */
export async function findProblem(verification: Promise<void>): Promise<string | undefined> {
  try {
    await verification
    return undefined
  } catch (error) {
    if (error instanceof InvalidIdentityTokenError || error instanceof IssuerUnavailableError)
      return error.message
    throw error
  }
}

function compared(
  check: PolicyCheck['check'],
  holds: boolean,
  wanted: readonly string[],
  found: readonly string[],
  claim: string | null = null,
): PolicyCheck {
  const shown = found.slice(0, SHOWN_MAX).map((text) => text.slice(0, SHOWN_LENGTH_MAX))
  return { check, claim, holds, wanted, found: shown, problem: null }
}
