import { type Actor, recordChange } from '../../db/auth/audit.ts'
import {
  addTrustPolicy,
  countTrustPoliciesOf,
  findTrustPolicy,
  listTrustPolicies,
  listTrustPoliciesOf,
  removeTrustPolicy,
  type TrustPolicyRow,
  useIdentityToken,
} from '../../db/auth/trust-policies.ts'
import type { Database } from '../../db/database.ts'
import { OciError } from '../../oci/errors.ts'
import type { GuardedClient } from '../../outgoing/client.ts'
import { OutgoingRefused } from '../../outgoing/guard.ts'
import { checkName, grantOf, parseGrant } from '../credentials.ts'
import { REVOCATION_KEPT_SECONDS } from '../lifetimes.ts'
import type { TrustedIdentity } from '../token-issuer.ts'
import { type Conditions, parseConditions } from './conditions.ts'
import {
  forgottenAt,
  IdentityRefused,
  type IdentityToken,
  identityTokenId,
  readIdentityToken,
  timeFault,
  verifySignature,
} from './identity.ts'
import { IssuerKeys, IssuerUnavailable } from './issuer-keys.ts'
import { faultOf, type PolicyCheck, policyChecks, tokenCheck } from './validation.ts'

export type { PolicyCheck }

/** What a policy is asked to be; `TrustPolicies.create` checks it. */
export type PolicyRequest = {
  readonly name: string
  /** `iss` of the tokens, letter by letter. */
  readonly issuer: string
  readonly audience: string
  /** See `parseConditions`. */
  readonly conditions: unknown
  readonly repositories: readonly string[]
  readonly actions: readonly string[]
  readonly tags: readonly string[] | undefined
  readonly tokenSeconds: number | undefined
}

/** A trust policy: whose identity tokens are exchanged for which tokens of ours. */
export type Policy = Omit<TrustPolicyRow, 'id'>

/** What every policy of a token's issuer makes of it. */
export type Explanation = {
  readonly issuer: string
  readonly subject: string
  /** The policy whose grants it would get: the first that matches, in the order of names. */
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
}

/** Longest that a token may live that came from an identity token. */
export const POLICY_TOKEN_SECONDS_MAX = 3600
const TOKEN_SECONDS_DEFAULT = 900
const ISSUER_LENGTH_MAX = 512
const AUDIENCE_LENGTH_MAX = 255
const POLICIES_OF_ISSUER_MAX = 1000
const ACTOR_LENGTH_MAX = 255
const RETRY_AFTER_SECONDS = 5

/** The trust policies of a registry. Every change is in the audit log. */
export class TrustPolicies {
  readonly #db: Database
  readonly #client: GuardedClient
  readonly #keys: IssuerKeys
  readonly #now: () => number

  constructor({ db, client, now = Date.now }: TrustPoliciesOptions) {
    this.#db = db
    this.#client = client
    this.#keys = new IssuerKeys(client, now)
    this.#now = now
  }

  /** Throws REQUEST_INVALID, and CONFLICT for a name that is in use. */
  async create(request: PolicyRequest, actor: Actor): Promise<Policy> {
    const { name, issuer, audience, tokenSeconds = TOKEN_SECONDS_DEFAULT } = request
    checkName(name)
    this.#checkIssuer(issuer)
    checkAudience(audience)
    checkSeconds(tokenSeconds)
    const conditions: Conditions = parseConditions(request.conditions)
    const grant = parseGrant(request)
    const row = await this.#db.transaction(async (tx) => {
      if ((await countTrustPoliciesOf(tx, issuer)) >= POLICIES_OF_ISSUER_MAX) {
        throw invalid(`an issuer may have at most ${POLICIES_OF_ISSUER_MAX} trust policies`)
      }
      await recordChange(tx, actor, { action: 'create-policy', detail: name })
      const added = { name, issuer, audience, conditions, ...grant, tokenSeconds }
      return (await addTrustPolicy(tx, { ...added, createdBy: actor.name })) ?? taken(name)
    })
    return policyOf(row)
  }

  /** Those after `last`, in the order of names. */
  async list(last: string, limit: number): Promise<Policy[]> {
    return (await listTrustPolicies(this.#db, last, limit)).map(policyOf)
  }

  /** The one of that name. Throws NOT_FOUND. */
  async named(name: string): Promise<Policy> {
    return policyOf((await findTrustPolicy(this.#db, storable(name))) ?? absent(name))
  }

  /** Ends it, and all tokens that came from it, on every replica within seconds. Throws NOT_FOUND. */
  async remove(name: string, actor: Actor): Promise<void> {
    await this.#db.transaction(async (tx) => {
      if (!(await removeTrustPolicy(tx, storable(name), REVOCATION_KEPT_SECONDS))) absent(name)
      await recordChange(tx, actor, { action: 'remove-policy', detail: name })
    })
  }

  /**
   * Believes an identity token, once. Of several policies that match it, only the first counts, in the
   * order of names: so its removal takes back everything that came from it. Throws UNAUTHORIZED, and
   * UNAVAILABLE while the keys of the issuer cannot be had.
   */
  async exchange(identityToken: string): Promise<TrustedIdentity> {
    try {
      return await this.#exchange(readIdentityToken(identityToken))
    } catch (error) {
      if (error instanceof IdentityRefused) throw refused(error.message, error)
      if (error instanceof IssuerUnavailable) throw unavailable(error)
      throw error
    }
  }

  async #exchange(token: IdentityToken): Promise<TrustedIdentity> {
    // An issuer that nobody trusts is never asked anything.
    const policies = await this.#policiesFor(token)
    if (policies.length === 0) throw new IdentityRefused(NO_MATCH)
    await verifySignature(token, this.#keys)
    const fault = timeFault(token, this.#now())
    if (fault !== undefined) throw new IdentityRefused(fault)
    const policy = policies.find((one) => policyChecks(one, token).every(({ holds }) => holds))
    if (policy === undefined) throw new IdentityRefused(NO_MATCH)
    const tokenId = identityTokenId(token)
    if (!(await useIdentityToken(this.#db, token.issuer, tokenId, forgottenAt(token)))) {
      throw new IdentityRefused('this identity token was used already')
    }
    return {
      actor: actorOf(policy, token),
      origin: `policy:${policy.id}`,
      grants: [grantOf(policy)],
      tokenSeconds: Math.min(policy.tokenSeconds, POLICY_TOKEN_SECONDS_MAX),
    }
  }

  /**
   * What would come of an exchange, and why, for administrators; the token is not used up. Throws
   * REQUEST_INVALID for what is no identity token.
   */
  async explain(identityToken: string): Promise<Explanation> {
    const token = readForExplanation(identityToken)
    const rows = await this.#policiesFor(token)
    const common =
      rows.length === 0
        ? []
        : [
            tokenCheck('signature', await faultOf(verifySignature(token, this.#keys))),
            tokenCheck('time', timeFault(token, this.#now())),
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
    return listTrustPoliciesOf(this.#db, issuer, POLICIES_OF_ISSUER_MAX)
  }

  #checkIssuer(issuer: string): void {
    // As a token would say it: nothing is added or taken away before it is compared.
    if (issuer.length > ISSUER_LENGTH_MAX || !/^https?:\/\/[!-~]+$/.test(issuer)) {
      throw invalid(ISSUER_RULE)
    }
    if (/[?#]/.test(issuer)) throw invalid(ISSUER_RULE)
    try {
      this.#client.demandReachable(issuer)
    } catch (error) {
      throw error instanceof OutgoingRefused ? invalid(error.message, error) : error
    }
  }
}

const NO_MATCH = 'no trust policy matches this identity token'
const ISSUER_RULE = `an issuer is a URL as its tokens have it in iss, such as https://token.actions.githubusercontent.com, of at most ${ISSUER_LENGTH_MAX} characters`

/** Who it was: the policy, and whom the issuer says, fit to be stored. */
function actorOf({ name }: TrustPolicyRow, { subject }: IdentityToken): string {
  const actor = `${name}/${subject}`
  const cut = actor.length > ACTOR_LENGTH_MAX ? `${actor.slice(0, ACTOR_LENGTH_MAX - 1)}…` : actor
  return cut.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '\uFFFD')
}

function policyOf({ id: _, ...policy }: TrustPolicyRow): Policy {
  return policy
}

function readForExplanation(identityToken: string): IdentityToken {
  try {
    return readIdentityToken(identityToken)
  } catch (error) {
    throw error instanceof IdentityRefused ? invalid(error.message, error) : error
  }
}

function checkAudience(audience: string): void {
  if (audience === '' || audience.length > AUDIENCE_LENGTH_MAX || /[\p{C}]/u.test(audience)) {
    throw invalid(
      `an audience is what tokens have in aud, at most ${AUDIENCE_LENGTH_MAX} characters`,
    )
  }
}

function checkSeconds(seconds: number): void {
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > POLICY_TOKEN_SECONDS_MAX) {
    throw invalid(`tokens live from 1 to ${POLICY_TOKEN_SECONDS_MAX} seconds`)
  }
}

/** No name has this character, and Postgres cannot even be asked for it. */
function storable(name: string): string {
  return name.includes('\0') ? absent(name) : name
}

function absent(name: string): never {
  const message = `there is no trust policy ${name.slice(0, NAME_SHOWN_MAX)}`
  throw new OciError('NOT_FOUND', undefined, { message })
}

const NAME_SHOWN_MAX = 64

function taken(name: string): never {
  const message = `there is a trust policy named ${name}: remove it first, or choose another name`
  throw new OciError('CONFLICT', undefined, { message })
}

function invalid(message: string, cause?: unknown): OciError {
  return new OciError('REQUEST_INVALID', undefined, { message, cause })
}

function refused(message: string, cause: unknown): OciError {
  return new OciError('UNAUTHORIZED', undefined, { message, cause })
}

function unavailable(cause: IssuerUnavailable): OciError {
  return new OciError('UNAVAILABLE', undefined, {
    message: 'the keys of the issuer cannot be fetched at the moment, try again',
    headers: { 'Retry-After': String(RETRY_AFTER_SECONDS) },
    cause,
  })
}
