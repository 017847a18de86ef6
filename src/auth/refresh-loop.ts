import { Loop } from '../async/loop.ts'
import { removeOldAuditEntries } from '../db/auth/audit.ts'
import { removeExpiredRefreshTokens } from '../db/auth/refresh-tokens.ts'
import { removeExpiredRevocations } from '../db/auth/revocations.ts'
import { removeEndedSessions } from '../db/auth/sessions.ts'
import { removeExpiredSigningKeys } from '../db/auth/signing-keys.ts'
import { removeExpiredIdentityTokens } from '../db/auth/trust-policies.ts'
import { removeExpiredUploadUrls } from '../db/auth/upload-urls.ts'
import type { Database } from '../db/database.ts'
import { removeExpiredEnrolments } from '../db/hosts/enrolments.ts'
import { removeUsedAssertions } from '../db/hosts/host-keys.ts'
import { removeExpiredPendingHosts } from '../db/hosts/pending-hosts.ts'
import { REVOCATION_REFRESH_SECONDS, type RevocationList } from './revocations.ts'
import type { KeyRing } from './signing-keys.ts'

export type AuthRefreshOptions = {
  readonly db: Database
  readonly keys: KeyRing
  readonly revocations: RevocationList
  readonly auditDays: number
  onError(error: unknown): void
}

/** Expired rows are removed after this many refreshes: every five minutes. */
const REFRESHES_PER_REMOVAL = 150
const BATCHES_MAX = 100
const STOP_SECONDS_MAX = 2

/** Keeps the signing keys and revocations of this process fresh, and removes expired rows. */
export function startAuthRefresh(options: AuthRefreshOptions): Loop {
  const { db, keys, revocations, auditDays, onError } = options
  let refreshes = 0
  const work = async (signal: AbortSignal): Promise<void> => {
    refreshes += 1
    await revocations.refresh()
    await keys.refresh()
    if (refreshes % REFRESHES_PER_REMOVAL === 0) await removeExpiredAuthRows(db, auditDays, signal)
  }
  return new Loop({
    work,
    onError,
    everySeconds: REVOCATION_REFRESH_SECONDS,
    stopSecondsMax: STOP_SECONDS_MAX,
  }).start()
}

/** Removes expired rows in batches. Stops between two batches when the signal is aborted. */
export async function removeExpiredAuthRows(
  db: Database,
  auditDays: number,
  signal?: AbortSignal,
): Promise<void> {
  await removeExpiredSigningKeys(db)
  const batches = [
    () => removeExpiredRevocations(db),
    () => removeExpiredRefreshTokens(db),
    () => removeEndedSessions(db),
    () => removeExpiredIdentityTokens(db),
    () => removeExpiredUploadUrls(db),
    () => removeExpiredEnrolments(db),
    () => removeExpiredPendingHosts(db),
    () => removeUsedAssertions(db),
    () => removeOldAuditEntries(db, auditDays),
  ]
  for (const removeBatch of batches) {
    for (let batch = 0; batch < BATCHES_MAX && !signal?.aborted; batch += 1) {
      if ((await removeBatch()) === 0) break
    }
  }
}
