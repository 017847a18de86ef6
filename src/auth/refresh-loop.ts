import { setTimeout as delay } from 'node:timers/promises'
import { removeOldAuditEntries } from '../db/auth/audit.ts'
import { removeExpiredRefreshTokens } from '../db/auth/refresh-tokens.ts'
import { removeExpiredRevocations } from '../db/auth/revocations.ts'
import { removeExpiredSigningKeys } from '../db/auth/signing-keys.ts'
import { removeExpiredIdentityTokens } from '../db/auth/trust-policies.ts'
import { removeExpiredUploadUrls } from '../db/auth/upload-urls.ts'
import type { Database } from '../db/database.ts'
import { REVOCATION_REFRESH_SECONDS, type RevocationList } from './revocations.ts'
import type { KeyRing } from './signing-keys.ts'

export type AuthRefreshOptions = {
  readonly db: Database
  readonly keys: KeyRing
  readonly revocations: RevocationList
  readonly auditDays: number
  onError(error: unknown): void
}

/** Tidies up at every so many looks at keys and revocations. */
const LOOKS_A_TIDYING = 150
const BATCHES_MAX = 100
const STOP_MILLISECONDS_MAX = 2_000

export type AuthRefresh = { stop(): Promise<void> }

/** Keeps what this process knows of keys and revocations fresh, and forgets what has expired. */
export function startAuthRefresh(options: AuthRefreshOptions): AuthRefresh {
  const { db, keys, revocations, auditDays, onError } = options
  let looks = 0
  let stopped = false
  let running: Promise<void> | undefined
  const look = async (): Promise<void> => {
    looks += 1
    await revocations.refresh()
    await keys.refresh()
    if (looks % LOOKS_A_TIDYING === 0) await removeExpiredAuthRows(db, auditDays, () => !stopped)
  }
  const timer = setInterval(() => {
    running ??= look()
      .catch((error: unknown) => {
        if (!stopped) onError(error)
      })
      .finally(() => {
        running = undefined
      })
  }, REVOCATION_REFRESH_SECONDS * 1000)
  timer.unref()
  return {
    async stop() {
      stopped = true
      clearInterval(timer)
      await Promise.race([running, delay(STOP_MILLISECONDS_MAX, undefined, { ref: false })])
    },
  }
}

/** Forgets what has expired, in batches. */
export async function removeExpiredAuthRows(
  db: Database,
  auditDays: number,
  goOn: () => boolean = () => true,
): Promise<void> {
  await removeExpiredSigningKeys(db)
  const batches = [
    () => removeExpiredRevocations(db),
    () => removeExpiredRefreshTokens(db),
    () => removeExpiredIdentityTokens(db),
    () => removeExpiredUploadUrls(db),
    () => removeOldAuditEntries(db, auditDays),
  ]
  for (const removeBatch of batches) {
    for (let batch = 0; batch < BATCHES_MAX && goOn(); batch += 1) {
      if ((await removeBatch()) === 0) break
    }
  }
}
