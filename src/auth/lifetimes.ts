import { TOKEN_SECONDS_MAX } from '../config/limits.ts'

/** Uploads that began under a token may be finished so long after it expired. */
export const UPLOAD_FINISH_SECONDS_MAX = 86_400
/** A retired key is believed for so long: until the last token that it signed is of no use. */
export const KEY_RETIRING_SECONDS = TOKEN_SECONDS_MAX + UPLOAD_FINISH_SECONDS_MAX
/** After so long nothing that came from what was revoked can be believed anyway. */
export const REVOCATION_KEPT_SECONDS = KEY_RETIRING_SECONDS + 3600
/** So long others may keep the published keys. */
export const JWKS_CACHE_SECONDS = 300
/** A new key waits for so long before it signs: everybody must have seen it. */
export const KEY_ACTIVATION_SECONDS = 2 * JWKS_CACHE_SECONDS
