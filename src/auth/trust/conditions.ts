import { badRequest } from '../../oci/errors.ts'
import { type Glob, matchesAnyGlob, parseClaimGlob } from '../../oci/glob.ts'
import type { Claims } from './identity-token.ts'

/** For each claim the globs, one of which must match; all claims must. */
export type Conditions = Readonly<Record<string, readonly Glob[]>>

const CONDITIONS_MAX = 32
const GLOBS_MAX = 32
const CLAIM_LENGTH_MAX = 255
/** A longer value is matched by nothing, so that comparing stays short whatever a token says. */
const VALUE_LENGTH_MAX = 1024
const VALUES_MAX = 1000
/** What Postgres has no characters for. */
const UNSTORABLE = /[\0\p{Cs}]/u

/**
 * Checks conditions as they come from outside: a claim, or a JSON Pointer (RFC 6901) that begins with
 * `/`, and one glob or several. Throws REQUEST_INVALID.
 */
export function parseConditions(value: unknown): Conditions {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw badRequest('conditions is an object, such as {"repository": "octo/kernel"}')
  }
  const entries = Object.entries(value).map(([claim, globs]): [string, Glob[]] => {
    checkClaim(claim)
    return [claim, parseGlobs(claim, globs)]
  })
  if (entries.length === 0 || entries.length > CONDITIONS_MAX) {
    throw badRequest(`there must be a condition, and at most ${CONDITIONS_MAX}`)
  }
  if (entries.every(([, globs]) => globs.some((glob) => /^\*+$/.test(glob)))) {
    throw badRequest('conditions that anything meets are none: one must say more than *')
  }
  return Object.fromEntries(entries)
}

/** True when what the token says in that claim is matched by one of the globs. */
export function conditionHolds(claims: Claims, claim: string, globs: readonly Glob[]): boolean {
  return claimTexts(claims, claim).some(
    (text) => text.length <= VALUE_LENGTH_MAX && matchesAnyGlob(globs, text),
  )
}

/** What the token says there, as texts: one, none, or for a list those of its elements. */
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

/** Only what the token itself says: nothing that objects or lists have by nature. */
function member(value: unknown, name: string): unknown {
  if (Array.isArray(value))
    return /^(?:0|[1-9]\d{0,5})$/.test(name) ? value[Number(name)] : undefined
  if (typeof value !== 'object' || value === null) return undefined
  return Object.getOwnPropertyDescriptor(value, name)?.value
}

function checkClaim(claim: string): void {
  const isPointer = claim.startsWith('/')
  if (
    claim === '' ||
    claim.length > CLAIM_LENGTH_MAX ||
    UNSTORABLE.test(claim) ||
    (isPointer && /~(?![01])/.test(claim))
  ) {
    throw badRequest(
      `a condition is about a claim, such as repository, or about a JSON Pointer, such as /kubernetes.io/namespace, of at most ${CLAIM_LENGTH_MAX} characters`,
    )
  }
}

function parseGlobs(claim: string, value: unknown): Glob[] {
  const globs: unknown[] = Array.isArray(value) ? value : [value]
  if (globs.length === 0 || globs.length > GLOBS_MAX) {
    throw badRequest(`the claim ${claim} needs a value that it must have, or at most ${GLOBS_MAX}`)
  }
  return globs.map((glob) => {
    if (typeof glob !== 'string' || UNSTORABLE.test(glob)) {
      throw badRequest(
        `the condition of ${claim} must be a string, without characters that are none`,
      )
    }
    return parseClaimGlob(glob)
  })
}
