import { TOKEN_SECONDS_MAX } from '../config/limits.ts'

/** Uploads that began with a token may be finished for this time after it expired. */
export const UPLOAD_FINISH_SECONDS_MAX = 86_400
/** A retired key stays trusted until the last token that it signed is useless. */
export const KEY_RETIRING_SECONDS = TOKEN_SECONDS_MAX + UPLOAD_FINISH_SECONDS_MAX
/** A revocation is kept until everything that it revoked has expired anyway. */
export const REVOCATION_KEPT_SECONDS = KEY_RETIRING_SECONDS + 3600
/** Verifiers may cache the published keys for this time. */
export const JWKS_CACHE_SECONDS = 300
/** A new key signs after this time, so that every verifier has read it. */
export const KEY_ACTIVATION_SECONDS = 2 * JWKS_CACHE_SECONDS
