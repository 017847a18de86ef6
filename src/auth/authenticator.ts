import { OciError } from '../oci/errors.ts'
import type { Caller } from './access.ts'
import { parseBasic } from './basic.ts'
import { isSecret } from './secret.ts'

export const ADMIN_USER = 'admin'

/** Says who asks, from the Authorization header. */
export interface Authenticator {
  /** Throws UNAUTHORIZED for credentials that do not hold; without any, the caller is anonymous. */
  authenticate(authorization: string | undefined): Caller
  /** The WWW-Authenticate header that tells clients how to come back (RFC 9110, section 11.6.1). */
  challenge(): string
}

/** Knows one credential: `admin`, with the secret whose hash it was given. */
export class AdminAuthenticator implements Authenticator {
  readonly #secretSha256: Buffer
  readonly #realm: string

  constructor(secretSha256: Buffer, realm: string) {
    this.#secretSha256 = secretSha256
    this.#realm = realm
  }

  authenticate(authorization: string | undefined): Caller {
    if (authorization === undefined) return { kind: 'anonymous' }
    const credentials = parseBasic(authorization)
    if (credentials === undefined) {
      throw new OciError('UNAUTHORIZED', undefined, {
        message: 'send the credential as Basic authorization, user and password',
      })
    }
    // What skopeo and podman send to a registry that has challenged them when they have nothing.
    if (credentials.user === '' && credentials.password === '') return { kind: 'anonymous' }
    // The secret is compared whoever the user is, so that the time taken tells nothing.
    const right = isSecret(credentials.password, this.#secretSha256)
    if (!right || credentials.user !== ADMIN_USER) {
      throw new OciError('UNAUTHORIZED', undefined, { message: 'wrong user name or password' })
    }
    return { kind: 'admin', actor: ADMIN_USER }
  }

  challenge(): string {
    return `Basic realm="${this.#realm}", charset="UTF-8"`
  }
}
