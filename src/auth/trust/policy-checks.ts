import type { TrustPolicyRow } from '../../db/auth/trust-policies.ts'
import type { Glob } from '../../oci/glob.ts'
import { claimTexts, conditionHolds } from './conditions.ts'
import { audiencesOf, type IdentityToken, InvalidIdentityTokenError } from './identity-token.ts'
import { IssuerUnavailableError } from './issuer-keys.ts'

/** One thing that must hold before a token is exchanged, for people who look why it was not. */
export type PolicyCheck = {
  readonly check: 'issuer' | 'signature' | 'time' | 'audience' | 'condition'
  /** Of a condition, what it is about. */
  readonly claim: string | null
  readonly holds: boolean
  /** What the policy wants: one of these. */
  readonly wanted: readonly string[]
  /** What the token says. */
  readonly found: readonly string[]
  /** Why it does not hold, where that is not to be seen from the two. */
  readonly problem: string | null
}

const SHOWN_MAX = 20
const SHOWN_LENGTH_MAX = 256

/** What the policy itself wants of a token, whoever signed it. */
export function policyChecks(policy: TrustPolicyRow, token: IdentityToken): PolicyCheck[] {
  const { issuer, audience, conditions } = policy
  const audiences = audiencesOf(token)
  return [
    compared('issuer', token.issuer === issuer, [issuer], [token.issuer]),
    compared('audience', audiences.includes(audience), [audience], audiences),
    ...Object.entries(conditions).map(([claim, texts]) => {
      const globs = texts as readonly Glob[]
      const found = claimTexts(token.claims, claim)
      return compared('condition', conditionHolds(token.claims, claim, globs), globs, found, claim)
    }),
  ]
}

/** What every policy wants of the token: `fault` says what is wrong with it, if anything. */
export function tokenCheck(check: 'signature' | 'time', fault: string | undefined): PolicyCheck {
  const problem = fault ?? null
  return { check, claim: null, holds: fault === undefined, wanted: [], found: [], problem }
}

/** What was wrong, when that can be said of a token or its issuer; everything else is thrown on. */
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
  isRight: boolean,
  wanted: readonly string[],
  found: readonly string[],
  claim: string | null = null,
): PolicyCheck {
  const shown = found.slice(0, SHOWN_MAX).map((text) => text.slice(0, SHOWN_LENGTH_MAX))
  return { check, claim, holds: isRight, wanted, found: shown, problem: null }
}
