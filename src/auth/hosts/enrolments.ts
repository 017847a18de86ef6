import { type Actor, recordChange } from '../../db/auth/audit.ts'
import type { Database, Queryable } from '../../db/database.ts'
import {
  addEnrolment,
  type EnrolmentRow,
  findEnrolment,
  markEnrolmentUsed,
} from '../../db/hosts/enrolments.ts'
import { findHostOfKey, markAssertionUsed } from '../../db/hosts/host-keys.ts'
import { addHost, findHost, type HostState } from '../../db/hosts/hosts.ts'
import { removePendingHost } from '../../db/hosts/pending-hosts.ts'
import { parseNetworks } from '../../networks/networks.ts'
import { badRequest, conflict, denied, notFound, RegistryError } from '../../oci/errors.ts'
import type { AuditLog } from '../audit.ts'
import type { Authenticator } from '../authenticator.ts'
import { generateSecret, hashSecret, isSecretLike } from '../secrets.ts'
import { requestApproval } from './approvals.ts'
import { type Assertion, InvalidAssertionError, verifyAssertion } from './assertions.ts'
import { appendEnrolled } from './host-events.ts'
import { type HostKey, parseHostKey } from './host-key.ts'
import {
  assertHostName,
  checkHostGrant,
  type HostGrantRequest,
  type HostRequester,
  ownerOriginOf,
} from './host-rights.ts'
import { giveKey, nameTaken, requireNew } from './new-host.ts'

/** A request for a code with which one host enrols. */
export type EnrolmentRequest = HostGrantRequest & {
  readonly name: string
  /** Lifetime. Undefined: an hour. */
  readonly seconds: number | undefined
}

export type CreatedEnrolment = Pick<
  EnrolmentRow,
  'name' | 'repositories' | 'networks' | 'labels'
> & { readonly code: string; readonly expiresAt: Date }

/** The request of a host that enrols. */
export type HostEnrolment = {
  readonly code: string | undefined
  /** With a code, the name that the code is for, or undefined. */
  readonly name: string | undefined
  /** Its public key: JSON text, or an object. */
  readonly jwk: unknown
  /** An assertion that the key signed. */
  readonly proof: string
}

export type EnrolledHost = {
  readonly host: string
  readonly state: Exclude<HostState, 'revoked'>
  readonly fingerprint: string
}

type RequestOfHost = { readonly address: string; readonly requestId: string }

export type HostEnrolmentsOptions = {
  readonly db: Database
  readonly authenticator: Authenticator
  readonly audit: AuditLog
  /** `aud` of the proofs. */
  readonly issuer: string
  /** True when hosts may enrol without a code, and wait for an approval. */
  readonly acceptsRequests: boolean
  /** Called after a commit that has events. */
  readonly onCommitted: () => void
  /** Milliseconds since the epoch. */
  readonly now?: () => number
}

const CODE_SECONDS_DEFAULT = 3600
export const CODE_SECONDS_MAX = 7 * 86_400

/** Enrols hosts: each makes its own key, and proves that it has it. */
export class HostEnrolments {
  readonly #options: HostEnrolmentsOptions
  readonly #now: () => number

  constructor(options: HostEnrolmentsOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  /**
   * Creates a code with which one host enrols, once, under a name and with a grant that is not more than the requester
   * has. The code is stored as a hash only. Throws REQUEST_INVALID, DENIED, and CONFLICT for the name of an active host.
   */
  async createCode(request: EnrolmentRequest, requester: HostRequester): Promise<CreatedEnrolment> {
    const { name, seconds = CODE_SECONDS_DEFAULT } = request
    assertHostName(name)
    if (!(seconds >= 1 && seconds <= CODE_SECONDS_MAX)) {
      throw badRequest(`a code lives for 1 to ${CODE_SECONDS_MAX} seconds`)
    }
    const grant = checkHostGrant(request, requester)
    const code = generateSecret('enrolment')
    const { actor } = requester
    const expiresAt = await this.#options.db.transaction(async (tx) => {
      const detail = `${name}: ${grant.repositories.join(', ')}`
      await recordChange(tx, actor, { action: 'create-enrolment', detail })
      if ((await findHost(tx, name))?.state === 'active') throw nameTaken(name)
      const { origin, tokenId, keyId } = actor
      const row = { name, ...grant, createdBy: actor.name, origin, tokenId, keyId }
      return addEnrolment(tx, row, hashSecret(code), seconds)
    })
    return { code, name, ...grant, expiresAt }
  }

  /**
   * Enrols a host. A host that repeats its request gets the same answer. Throws REQUEST_INVALID for a malformed key or
   * proof, NOT_FOUND for an unknown code, GONE for a code that has ended, DENIED outside its networks and without a code,
   * CONFLICT when the name or the key is taken, and TOOMANYREQUESTS for an address that guesses codes.
   */
  async enrol(enrolment: HostEnrolment, request: RequestOfHost): Promise<EnrolledHost> {
    const key = await parseHostKey(enrolment.jwk)
    const proof = await this.#verifyProof(enrolment.proof, key)
    if (enrolment.name !== undefined) assertHostName(enrolment.name)
    let code: EnrolmentRow | undefined
    try {
      code = await this.#findCode(enrolment.code, request.address)
      const name = nameOf(enrolment.name, code)
      const enrolled = await this.#findEnrolled(name, key, proof, code !== undefined)
      if (enrolled !== undefined) return enrolled
      if (enrolment.code === undefined || code === undefined) {
        return await this.#requestApproval(name, key, proof, request)
      }
      assertUsable(code)
      assertInNetworks(code, request.address)
      return await this.#enrolByCode(hashSecret(enrolment.code), code, key, proof, request)
    } catch (error) {
      if (error instanceof RegistryError && error.status < 500) {
        this.#auditRefusal(enrolment, code, error, request)
      }
      throw error
    }
  }

  async #verifyProof(proof: string, { jwk, thumbprint }: HostKey): Promise<Assertion> {
    try {
      return await verifyAssertion(proof, {
        audience: this.#options.issuer,
        now: this.#now(),
        findKey: async (kid) => (kid === thumbprint ? jwk : undefined),
      })
    } catch (error) {
      if (!(error instanceof InvalidAssertionError)) throw error
      throw badRequest(`proof: ${error.message}`, { field: 'proof', cause: error })
    }
  }

  async #findCode(code: string | undefined, address: string): Promise<EnrolmentRow | undefined> {
    if (code === undefined) return undefined
    const { authenticator, db } = this.#options
    try {
      return await authenticator.findBySecret('enrolment code', code, address, () =>
        isSecretLike(code, 'enrolment') ? findEnrolment(db, hashSecret(code)) : undefined,
      )
    } catch (cause) {
      if (!(cause instanceof RegistryError) || cause.code !== 'UNAUTHORIZED') throw cause
      throw notFound('there is no such code: rookery host create makes one', { cause })
    }
  }

  /**
   * Returns the host that has this key already: an answer was lost, or somebody asks whether it is approved. A host that waits
   * needs no approval any more when it has a code.
   */
  async #findEnrolled(
    name: string,
    { thumbprint }: HostKey,
    proof: Assertion,
    hasCode: boolean,
  ): Promise<EnrolledHost | undefined> {
    const enrolled = await findHostOfKey(this.#options.db, thumbprint)
    if (enrolled === undefined || enrolled.isExpired) return undefined
    if (hasCode && enrolled.state === 'pending') return undefined
    await markProofUsed(this.#options.db, proof)
    if (enrolled.state === 'revoked' || enrolled.isEnded) {
      throw conflict('this key was revoked or replaced, so that it is refused: make another key')
    }
    if (enrolled.name !== name) throw conflict('another host has this key: make another key')
    return { host: enrolled.name, state: enrolled.state, fingerprint: thumbprint }
  }

  async #enrolByCode(
    codeSha256: Buffer,
    code: EnrolmentRow,
    key: HostKey,
    proof: Assertion,
    request: RequestOfHost,
  ): Promise<EnrolledHost> {
    const { createdBy, origin, tokenId, keyId, name } = code
    const actor: Actor = { name: createdBy, origin, tokenId, keyId, ...request }
    try {
      await this.#options.db.transaction(async (tx) => {
        const detail = `${name}, key ${key.thumbprint}`
        // First: the code is void when its creator was revoked.
        await recordChange(tx, actor, { action: 'enrol-host', detail })
        if (!(await markEnrolmentUsed(tx, codeSha256)))
          throw codeGone('was used already, or has expired')
        await markProofUsed(tx, proof)
        await removePendingHost(tx, name, key.thumbprint)
        const host = { ...code, ownerOrigin: ownerOriginOf(code) }
        const added = requireNew(await addHost(tx, host, null), name)
        await giveKey(tx, added, key)
        await appendEnrolled(tx, added, createdBy, key.thumbprint)
      })
    } catch (error) {
      if (!(error instanceof RegistryError) || error.code !== 'UNAUTHORIZED') throw error
      throw codeGone('is void: the credential or token that created it was revoked')
    }
    this.#options.onCommitted()
    return { host: name, state: 'active', fingerprint: key.thumbprint }
  }

  /** Without a code, a host waits until somebody approves its key, where the operator permits that. */
  async #requestApproval(
    name: string,
    key: HostKey,
    proof: Assertion,
    request: RequestOfHost,
  ): Promise<EnrolledHost> {
    if (!this.#options.acceptsRequests) throw denied(CODE_NEEDED)
    await this.#options.db.transaction(async (tx) => {
      await markProofUsed(tx, proof)
      await requestApproval(tx, name, key, request)
    })
    this.#options.onCommitted()
    return { host: name, state: 'pending', fingerprint: key.thumbprint }
  }

  #auditRefusal(
    { name }: HostEnrolment,
    code: EnrolmentRow | undefined,
    { message }: RegistryError,
    request: RequestOfHost,
  ): void {
    const about = code?.name ?? name
    const detail = `POST /api/v1/hosts/enrol: ${about === undefined ? '' : `host ${about}: `}${message}`
    this.#options.audit.enqueue({ action: 'enrol-host', decision: 'refused', detail, ...request })
  }
}

const CODE_NEEDED =
  'a host needs a code to enrol: somebody with admin on its repositories makes one with rookery host create NAME'

/** Nobody may use the proof for a token. A host that repeats its request may send it again. */
async function markProofUsed(db: Queryable, proof: Assertion): Promise<void> {
  await markAssertionUsed(db, proof.thumbprint, proof.id, proof.refusedFrom)
}

function nameOf(name: string | undefined, code: EnrolmentRow | undefined): string {
  const wanted = code?.name ?? name
  if (wanted === undefined) throw badRequest('name is missing')
  if (name !== undefined && name !== wanted) {
    throw badRequest(`the code is for the host ${wanted}, not for ${name}`, { field: 'name' })
  }
  return wanted
}

function assertUsable({ usedAt, isExpired, expiresAt }: EnrolmentRow): void {
  if (usedAt !== null) throw codeGone(`was used at ${timeText(usedAt)}`)
  if (isExpired) throw codeGone(`expired at ${timeText(expiresAt)}`)
}

function assertInNetworks({ networks }: EnrolmentRow, address: string): void {
  if (networks === null || parseNetworks(networks)?.has(address)) return
  throw denied(`this code may not be used from ${address}, but only from the networks of the host`)
}

function codeGone(reason: string): RegistryError {
  return new RegistryError('GONE', undefined, {
    message: `this code ${reason}: rookery host create makes another one`,
  })
}

function timeText(time: Date): string {
  return `${time.toISOString().slice(0, 19)}Z`
}
