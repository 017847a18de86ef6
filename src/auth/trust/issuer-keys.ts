import {
  type CryptoKey,
  createLocalJWKSet,
  type JSONWebKeySet,
  type JWSHeaderParameters,
} from 'jose'
import { LRUCache } from 'lru-cache'
import type { GuardedClient } from '../../outgoing/client.ts'

/** The keys of an issuer could not be fetched. The message gives the reason, in one line. */
export class IssuerUnavailableError extends Error {
  override readonly name = 'IssuerUnavailableError'
}

type FindKey = (header: JWSHeaderParameters) => Promise<CryptoKey>

/** The cached keys of an issuer, and its last fetch. */
type CachedIssuer = {
  find: FindKey | undefined
  fetchedAt: number
  triedAt: number
  failure: IssuerUnavailableError | undefined
  fetching: Promise<FindKey> | undefined
}

const ISSUERS_MAX = 100
/** Lifetime of cached keys. */
const KEYS_MILLISECONDS_MAX = 10 * 60_000
/** For an unknown key the keys are fetched again, at most at this interval. */
const UNKNOWN_MILLISECONDS_MIN = 30_000
/** Time to wait after a failed fetch. */
const FAILURE_MILLISECONDS = 5_000
const DOCUMENT_BYTES_MAX = 256 * 1024
const DISCOVERY = '/.well-known/openid-configuration'

/** Fetches the public keys of identity token issuers by their discovery documents, and caches them. */
export class IssuerKeys {
  readonly #client: GuardedClient
  readonly #now: () => number
  readonly #cache = new LRUCache<string, CachedIssuer>({ max: ISSUERS_MAX })

  /** `now` returns milliseconds since the epoch. */
  constructor(client: GuardedClient, now: () => number) {
    this.#client = client
    this.#now = now
  }

  /**
   * Returns the key that the header of a token names, or undefined when the issuer has no such key. Throws
   * IssuerUnavailableError.
   */
  async find(issuer: string, header: JWSHeaderParameters): Promise<CryptoKey | undefined> {
    const cached = this.#cachedIssuer(issuer)
    const isFresh = this.#now() - cached.fetchedAt < KEYS_MILLISECONDS_MAX
    const find = (isFresh ? cached.find : undefined) ?? (await this.#fetch(issuer, cached))
    const key = await keyOf(find, header)
    const isRecent = this.#now() - cached.triedAt < UNKNOWN_MILLISECONDS_MIN
    if (key !== undefined || (isRecent && cached.fetching === undefined)) return key
    return keyOf(await this.#fetch(issuer, cached), header)
  }

  #cachedIssuer(issuer: string): CachedIssuer {
    const cached = this.#cache.get(issuer) ?? {
      find: undefined,
      fetchedAt: Number.NEGATIVE_INFINITY,
      triedAt: Number.NEGATIVE_INFINITY,
      failure: undefined,
      fetching: undefined,
    }
    this.#cache.set(issuer, cached)
    return cached
  }

  /** Fetches the keys. Calls during a fetch, or shortly after a failed one, share its result. */
  async #fetch(issuer: string, cached: CachedIssuer): Promise<FindKey> {
    if (cached.fetching !== undefined) return cached.fetching
    if (cached.failure !== undefined && this.#now() - cached.triedAt < FAILURE_MILLISECONDS) {
      throw cached.failure
    }
    cached.triedAt = this.#now()
    cached.fetching = this.#fetchKeys(issuer)
      .then((find) => {
        Object.assign(cached, { find, fetchedAt: this.#now(), failure: undefined })
        return find
      })
      .catch((error: unknown) => {
        cached.failure = issuerUnavailable(issuer, error)
        throw cached.failure
      })
      .finally(() => {
        cached.triedAt = this.#now()
        cached.fetching = undefined
      })
    return cached.fetching
  }

  async #fetchKeys(issuer: string): Promise<FindKey> {
    // OpenID Connect Discovery 1.0, section 4.1: a terminating slash is removed.
    const discovery = await this.#fetchObject(`${issuer.replace(/\/$/, '')}${DISCOVERY}`)
    if (discovery.issuer !== issuer) {
      throw new IssuerUnavailableError('its discovery document names another issuer')
    }
    if (typeof discovery.jwks_uri !== 'string') {
      throw new IssuerUnavailableError('its discovery document has no jwks_uri')
    }
    const keySet = await this.#fetchObject(discovery.jwks_uri)
    if (!isKeySet(keySet)) throw new IssuerUnavailableError('its keys are not a JSON Web Key Set')
    return createLocalJWKSet(keySet)
  }

  async #fetchObject(url: string): Promise<Readonly<Record<string, unknown>>> {
    const { status, body } = await this.#client.request(url, {
      headers: { accept: 'application/json' },
      bytesMax: DOCUMENT_BYTES_MAX,
    })
    if (status !== 200) throw new IssuerUnavailableError(`${url} returned ${status} instead of 200`)
    const value = parseJson(body.toString('utf8'))
    if (typeof value !== 'object' || value === null) {
      throw new IssuerUnavailableError(`${url} returned no JSON object`)
    }
    return { ...value }
  }
}

async function keyOf(find: FindKey, header: JWSHeaderParameters): Promise<CryptoKey | undefined> {
  try {
    return await find(header)
  } catch {
    // No key, or several for a token without `kid`, or the published key is malformed.
    return undefined
  }
}

function issuerUnavailable(issuer: string, error: unknown): IssuerUnavailableError {
  const reason = error instanceof Error ? error.message : String(error)
  return new IssuerUnavailableError(`the keys of ${issuer} cannot be fetched: ${reason}`, {
    cause: error,
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function isKeySet(value: object): value is JSONWebKeySet {
  return (
    'keys' in value &&
    Array.isArray(value.keys) &&
    value.keys.every((key) => typeof key === 'object' && key !== null && !Array.isArray(key))
  )
}
