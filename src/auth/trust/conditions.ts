import { badRequest } from '../../oci/errors.ts'
import { type Glob, matchesAnyGlob, parseClaimGlob } from '../../oci/glob.ts'
import { findHiddenProblem } from '../../oci/hidden-characters.ts'
import type { Claims } from './identity-token.ts'

/** The globs of each claim. Every claim must match one of its globs. */
export type Conditions = Readonly<Record<string, readonly Glob[]>>

const CONDITIONS_MAX = 32
const GLOBS_MAX = 32
const CLAIM_LENGTH_MAX = 255
/** A longer value matches nothing, so that matching stays fast for any token. */
const VALUE_LENGTH_MAX = 1024
const VALUES_MAX = 1000
/** Characters that Postgres cannot store. */
const UNSTORABLE = /[\0\p{Cs}]/u

/**
 * Parses the conditions of a request: claims, or JSON Pointers (RFC 6901) that begin with `/`, each with one
 * glob or several. Throws REQUEST_INVALID.
 */
export function parseConditions(value: unknown): Conditions {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw badRequest('conditions must be an object, such as {"repository": "octo/kernel"}')
  }
  const entries = Object.entries(value).map(([claim, globs]): [string, Glob[]] => {
    assertClaim(claim)
    return [claim, parseGlobs(claim, globs)]
  })
  if (entries.length === 0 || entries.length > CONDITIONS_MAX) {
    throw badRequest(`conditions must have 1 to ${CONDITIONS_MAX} entries`)
  }
  return Object.fromEntries(entries)
}

/** True when a value of the claim matches one of the globs. */
export function conditionHolds(claims: Claims, claim: string, globs: readonly Glob[]): boolean {
  return claimTexts(claims, claim).some(
    (text) => text.length <= VALUE_LENGTH_MAX && matchesAnyGlob(globs, text),
  )
}

/** Returns the values of a claim as texts: none, one, or those of a list. */
export function claimTexts(claims: Claims, claim: string): string[] {
  const value = claim.startsWith('/') ? pointedAt(claims, claim) : member(claims, claim)
  return [value].flat().slice(0, VALUES_MAX).flatMap(textsOf)
}

function textsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  return typeof value === 'number' || typeof value === 'boolean' ? [String(value)] : []
}

function pointedAt(claims: Claims, pointer: string): unknown {
  let value: unknown = claims
  for (const part of pointer.slice(1).split('/')) {
    value = member(value, part.replaceAll('~1', '/').replaceAll('~0', '~'))
  }
  return value
}

/** Returns an own member of a JSON value, never an inherited property of an object or array. */
function member(value: unknown, name: string): unknown {
  if (Array.isArray(value))
    return /^(?:0|[1-9]\d{0,5})$/.test(name) ? value[Number(name)] : undefined
  if (typeof value !== 'object' || value === null) return undefined
  return Object.getOwnPropertyDescriptor(value, name)?.value
}

function assertClaim(claim: string): void {
  const isPointer = claim.startsWith('/')
  if (
    claim === '' ||
    claim.length > CLAIM_LENGTH_MAX ||
    UNSTORABLE.test(claim) ||
    (isPointer && /~(?![01])/.test(claim))
  ) {
    throw badRequest(
      `a condition must name a claim, such as repository, or a JSON Pointer, such as /kubernetes.io/namespace, of at most ${CLAIM_LENGTH_MAX} characters`,
    )
  }
  const problem = findHiddenProblem(claim)
  if (problem !== undefined) throw badRequest(`the claim of a condition ${problem}`)
}

function parseGlobs(claim: string, value: unknown): Glob[] {
  const globs: unknown[] = Array.isArray(value) ? value : [value]
  if (globs.length === 0 || globs.length > GLOBS_MAX) {
    throw badRequest(`the condition of ${claim} must have 1 to ${GLOBS_MAX} patterns`)
  }
  return globs.map((glob) => {
    if (typeof glob !== 'string' || UNSTORABLE.test(glob)) {
      throw badRequest(
        `the condition of ${claim} must be a string of valid Unicode characters without NUL`,
      )
    }
    const problem = findHiddenProblem(glob)
    if (problem !== undefined) throw badRequest(`the condition of ${claim} ${problem}`)
    return parseClaimGlob(glob)
  })
}
