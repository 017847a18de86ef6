import { findExpiry } from '../client/login.ts'
import { TOKEN_SECONDS_MAX } from '../config/limits.ts'
import { UsageError } from './errors.ts'

/** A generated secret of a registry. */
const GENERATED = /rk[yrues]_[A-Za-z0-9_-]{43}/
const TOKEN = /eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*/
const LOGIN_IN_URL = /^(?:--[a-z-]+=)?[a-z][a-z0-9+.-]*:\/\/([^/?#]*)@/i

/**
 * Refuses secrets in the words of any command, because all users of the machine can read arguments. A URL may have a
 * token that expires within a day: it is made to be handed over. Throws UsageError, which does not repeat the word.
 */
export function assertNoSecrets(words: readonly string[]): void {
  for (const word of words) {
    const login = LOGIN_IN_URL.exec(word)?.[1]
    if (login !== undefined && !isShortLived(login.slice(login.indexOf(':') + 1))) {
      throw new UsageError(
        'the URL has a login, and all users of this machine can read arguments: give the URL on standard input, with - in its place, or log in with ROOKERY_TOKEN, --token-file, --username and --password-stdin, or docker login',
      )
    }
    if (GENERATED.test(word) || (login === undefined && TOKEN.test(word))) {
      throw new UsageError(
        'an argument has a secret, and all users of this machine can read arguments: give it on standard input, with - in its place',
      )
    }
  }
}

function isShortLived(password: string): boolean {
  const expiry = TOKEN.test(password) ? findExpiry(password) : undefined
  return expiry !== undefined && expiry * 1000 - Date.now() <= TOKEN_SECONDS_MAX * 1000
}
