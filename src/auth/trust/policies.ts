import { type Actor, recordChange } from '../../db/auth/audit.ts'
import {
  addTrustPolicy,
  countTrustPoliciesOfIssuer,
  findTrustPolicy,
  listTrustPolicies,
  listTrustPoliciesOfIssuer,
  markIdentityTokenUsed,
  removeTrustPolicy,
  type TrustPolicyRow,
} from '../../db/auth/trust-policies.ts'
import type { Database, Queryable } from '../../db/database.ts'
import {
  badRequest,
  conflict,
  notFound,
  type RegistryError,
  unauthorized,
  unavailable,
} from '../../oci/errors.ts'
import type { GuardedClient } from '../../outgoing/client.ts'
import { OutgoingRefusedError } from '../../outgoing/guard.ts'
import { assertName, grantOf, parseGrant } from '../credentials.ts'
import { REVOCATION_KEPT_SECONDS } from '../lifetimes.ts'
import type { TrustedIdentity } from '../token-issuer.ts'
import { type Conditions, parseConditions } from './conditions.ts'
import {
  decodeIdentityToken,
  findTimeProblem,
  type IdentityToken,
  InvalidIdentityTokenError,
  identityTokenId,
  replayCheckedUntil,
  verifySignature,
} from './identity-token.ts'
import { IssuerKeys, IssuerUnavailableError } from './issuer-keys.ts'
import {
  bindingOf,
  findProblem,
  type PolicyCheck,
  policyChecks,
  tokenCheck,
} from './policy-checks.ts'
import { findBindingProblem, findBindingWarning, sharedIssuerName } from './shared-issuers.ts'

export type { PolicyCheck }

/** A request for a policy, which `TrustPolicies.create` checks. */
export type TrustPolicyRequest = {
  readonly name: string
  /** `iss` of the tokens, compared exactly. */
  readonly issuer: string
  readonly audience: string
  /** See `parseConditions`. */
  readonly conditions: unknown
  readonly repositories: readonly string[]
  readonly actions: readonly string[]
  readonly tags: readonly string[] | undefined
  readonly tokenSeconds: number | undefined
  /** Confirms the action `admin` for an issuer that many owners share. */
  readonly allowAdmin?: boolean | undefined
}

/** A trust policy: which identity tokens are exchanged for access tokens, with which grant. */
export type TrustPolicy = Omit<TrustPolicyRow, 'id'> & {
  /** Warnings about its conditions, for administrators: each is one sentence. */
  readonly warnings: readonly string[]
}

/** The result of each policy of a token's issuer. */
export type PolicyExplanation = {
  readonly issuer: string
  readonly subject: string
  /** The policy whose grant it would get: the first that matches, by name. */
  readonly matches: string | null
  readonly policies: readonly {
    readonly name: string
    readonly matches: boolean
    readonly checks: readonly PolicyCheck[]
  }[]
}

export type TrustPoliciesOptions = {
  readonly db: Database
  readonly client: GuardedClient
  /** Milliseconds since the epoch. */
  readonly now?: () => number
  /** Applies a revocation in this process at once. Other replicas read it within seconds. */
  readonly onRevoked?: () => Promise<void>
}

/** Longest lifetime of an access token that came from an identity token. */
export const POLICY_TOKEN_SECONDS_MAX = 3600
const TOKEN_SECONDS_DEFAULT = 900
const ISSUER_LENGTH_MAX = 512
const AUDIENCE_LENGTH_MAX = 255
const POLICIES_OF_ISSUER_MAX = 1000
const ACTOR_LENGTH_MAX = 255
const RETRY_AFTER_SECONDS = 5

/** The trust policies of the registry. Every change is in the audit log. */
export class TrustPolicies {
  readonly #db: Database
  readonly #client: GuardedClient
  readonly #keys: IssuerKeys
  readonly #now: () => number
  readonly #onRevoked: () => Promise<void>

  constructor({ db, client, now = Date.now, onRevoked = async () => {} }: TrustPoliciesOptions) {
    this.#db = db
    this.#client = client
    this.#keys = new IssuerKeys(client, now)
    this.#now = now
    this.#onRevoked = onRevoked
  }

  /** Creates a policy. Throws REQUEST_INVALID, and CONFLICT for a name that is in use. */
  async create(request: TrustPolicyRequest, actor: Actor): Promise<TrustPolicy> {
    const { name, issuer, audience, tokenSeconds = TOKEN_SECONDS_DEFAULT } = request
    assertName(name)
    this.#assertIssuer(issuer)
    assertAudience(audience)
    assertTokenSeconds(tokenSeconds)
    const conditions: Conditions = parseConditions(request.conditions)
    assertBound(issuer, conditions)
    const grant = parseGrant(request)
    if (grant.actions.includes('admin')) assertAdminConfirmed(request)
    const row = await this.#db.transaction(async (tx) => {
      if ((await countTrustPoliciesOfIssuer(tx, issuer)) >= POLICIES_OF_ISSUER_MAX) {
        throw badRequest(`an issuer may have at most ${POLICIES_OF_ISSUER_MAX} trust policies`)
      }
      await recordChange(tx, actor, { action: 'create-policy', detail: name })
      const added = { name, issuer, audience, conditions, ...grant, tokenSeconds }
      return (await addTrustPolicy(tx, { ...added, createdBy: actor.name })) ?? throwNameTaken(name)
    })
    return policyOf(row)
  }

  /** Lists the policies after `last`, by name. */
  async list(last: string, limit: number, db: Queryable = this.#db): Promise<TrustPolicy[]> {
    return (await listTrustPolicies(db, last, limit)).map(policyOf)
  }

  /** Returns the policy of that name. Throws NOT_FOUND. */
  async requireByName(name: string): Promise<TrustPolicy> {
    return policyOf((await findTrustPolicy(this.#db, storable(name))) ?? throwNotFound(name))
  }

  /** Removes a policy and revokes all its tokens, on every replica within seconds. Throws NOT_FOUND. */
  async remove(name: string, actor: Actor): Promise<void> {
    await this.#db.transaction(async (tx) => {
      // First, because an actor may remove the policy that its own token came from.
      await recordChange(tx, actor, { action: 'remove-policy', detail: storable(name) })
      if (!(await removeTrustPolicy(tx, storable(name), REVOCATION_KEPT_SECONDS)))
        throwNotFound(name)
    })
    await this.#onRevoked()
  }

  /**
   * Accepts an identity token, once. When several policies match, the first by name applies, so that its
   * removal revokes everything that came from the token. Throws UNAUTHORIZED, and UNAVAILABLE while the keys
   * of the issuer cannot be fetched.
   */
  async exchange(identityToken: string): Promise<TrustedIdentity> {
    try {
      return await this.#exchange(decodeIdentityToken(identityToken))
    } catch (error) {
      if (error instanceof InvalidIdentityTokenError) throw unauthorized(error.message, error)
      if (error instanceof IssuerUnavailableError) throw issuerUnavailable(error)
      throw error
    }
  }

  async #exchange(token: IdentityToken): Promise<TrustedIdentity> {
    // The registry never connects to an issuer that no policy trusts.
    const policies = await this.#policiesFor(token)
    if (policies.length === 0) throw new InvalidIdentityTokenError(NO_MATCH)
    await verifySignature(token, this.#keys)
    const problem = findTimeProblem(token, this.#now())
    if (problem !== undefined) throw new InvalidIdentityTokenError(problem)
    const policy = policies.find((one) => policyChecks(one, token).every(({ holds }) => holds))
    if (policy === undefined) throw new InvalidIdentityTokenError(NO_MATCH)
    const tokenId = identityTokenId(token)
    if (
      !(await markIdentityTokenUsed(this.#db, token.issuer, tokenId, replayCheckedUntil(token)))
    ) {
      throw new InvalidIdentityTokenError('this identity token was used already')
    }
    return {
      actor: actorOf(policy, token),
      origin: `policy:${policy.id}`,
      grants: [grantOf(policy)],
      tokenSeconds: Math.min(policy.tokenSeconds, POLICY_TOKEN_SECONDS_MAX),
    }
  }

  /**
   * Explains to administrators what an exchange would return, and why. It does not use up the token. Throws
   * REQUEST_INVALID for a malformed token.
   */
  async explain(identityToken: string): Promise<PolicyExplanation> {
    const token = decodeForExplanation(identityToken)
    const rows = await this.#policiesFor(token)
    const common =
      rows.length === 0
        ? []
        : [
            tokenCheck('signature', await findProblem(verifySignature(token, this.#keys))),
            tokenCheck('time', findTimeProblem(token, this.#now())),
          ]
    const policies = rows.map((row) => {
      const checks = [...common, ...policyChecks(row, token)]
      return { name: row.name, matches: checks.every(({ holds }) => holds), checks }
    })
    const { issuer, subject } = token
    const matches = policies.find((policy) => policy.matches)?.name ?? null
    return { issuer, subject, matches, policies }
  }

  #policiesFor({ issuer }: IdentityToken): Promise<TrustPolicyRow[]> {
    return listTrustPoliciesOfIssuer(this.#db, issuer, POLICIES_OF_ISSUER_MAX)
  }

  #assertIssuer(issuer: string): void {
    // The issuer is stored as tokens have it: it is compared without normalization.
    if (issuer.length > ISSUER_LENGTH_MAX || !/^https?:\/\/[!-~]+$/.test(issuer)) {
      throw badRequest(ISSUER_RULE)
    }
    if (/[?#]/.test(issuer)) throw badRequest(ISSUER_RULE)
    try {
      this.#client.assertUrlAllowed(issuer)
    } catch (error) {
      throw error instanceof OutgoingRefusedError
        ? badRequest(error.message, { cause: error })
        : error
    }
  }
}

const NO_MATCH = 'no trust policy matches this identity token'
const ISSUER_RULE = `an issuer must be the URL in iss of its tokens, such as https://token.actions.githubusercontent.com, of at most ${ISSUER_LENGTH_MAX} characters`

/** Returns the actor: policy and subject, cut and cleaned for storage. */
function actorOf({ name }: TrustPolicyRow, { subject }: IdentityToken): string {
  const actor = `${name}/${subject}`
  const cut = actor.length > ACTOR_LENGTH_MAX ? `${actor.slice(0, ACTOR_LENGTH_MAX - 1)}…` : actor
  return cut.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '\uFFFD')
}

function policyOf({ id: _, ...policy }: TrustPolicyRow): TrustPolicy {
  const binding = bindingOf(policy)
  const problem = findBindingProblem(binding)
  const refused = problem && `its identity tokens are refused: ${problem}`
  const warnings = [refused ?? findBindingWarning(binding)].filter((text) => text !== undefined)
  return { ...policy, warnings }
}

/** Throws REQUEST_INVALID for conditions that identity tokens of unrelated owners meet. */
function assertBound(issuer: string, conditions: Conditions): void {
  const problem = findBindingProblem({ issuer, conditions })
  if (problem !== undefined) throw badRequest(problem)
}

function assertAdminConfirmed({ issuer, allowAdmin }: TrustPolicyRequest): void {
  const shared = sharedIssuerName(issuer)
  if (shared === undefined || allowAdmin === true) return
  throw badRequest(
    `the action admin for identity tokens of ${shared}, which everybody can get, must be confirmed: set allowAdmin to true (--allow-admin), or leave admin out`,
  )
}

function decodeForExplanation(identityToken: string): IdentityToken {
  try {
    return decodeIdentityToken(identityToken)
  } catch (error) {
    throw error instanceof InvalidIdentityTokenError
      ? badRequest(error.message, { cause: error })
      : error
  }
}

function assertAudience(audience: string): void {
  if (audience === '' || audience.length > AUDIENCE_LENGTH_MAX || /[\p{C}]/u.test(audience)) {
    throw badRequest(
      `an audience must be the aud of the tokens, of 1 to ${AUDIENCE_LENGTH_MAX} characters`,
    )
  }
}

function assertTokenSeconds(seconds: number): void {
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > POLICY_TOKEN_SECONDS_MAX) {
    throw badRequest(`tokenSeconds must be from 1 to ${POLICY_TOKEN_SECONDS_MAX}`)
  }
}

/** Throws NOT_FOUND for a name with NUL, which Postgres does not accept. */
function storable(name: string): string {
  return name.includes('\0') ? throwNotFound(name) : name
}

function throwNotFound(name: string): never {
  const message = `there is no trust policy ${name.slice(0, NAME_SHOWN_MAX)}`
  throw notFound(message)
}

const NAME_SHOWN_MAX = 64

function throwNameTaken(name: string): never {
  const message = `there is a trust policy named ${name}: remove it first, or choose another name`
  throw conflict(message)
}

function issuerUnavailable(cause: IssuerUnavailableError): RegistryError {
  return unavailable('the keys of the issuer cannot be fetched at the moment, try again', {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    cause,
  })
}
