import { removeOldAuditEntries } from '../../src/db/auth/audit.ts'
import { listCredentials } from '../../src/db/auth/credentials.ts'
import { removeExpiredRefreshTokens } from '../../src/db/auth/refresh-tokens.ts'
import { listRevocations, removeExpiredRevocations } from '../../src/db/auth/revocations.ts'
import { listTrustPolicies, removeExpiredIdentityTokens } from '../../src/db/auth/trust-policies.ts'
import { removeExpiredUploadUrls } from '../../src/db/auth/upload-urls.ts'
import type { Transaction } from '../../src/db/database.ts'
import { listDesired, listDesiredVersions } from '../../src/db/deployments/desired.ts'
import { markLost, recordSeen } from '../../src/db/deployments/presence.ts'
import { removeOldUnitLogs } from '../../src/db/deployments/unit-logs.ts'
import {
  expireDeliveries,
  findExpiredPosition,
  purgeRemovedWebhooks,
  removeDeliveries,
  removeOrphanedDeliveries,
} from '../../src/db/events/retention.ts'
import { claimDeletions } from '../../src/db/maintenance/deletion-queue.ts'
import {
  countPendingCleanup,
  FIRST_CANDIDATE,
  listCandidates,
  lockEmptyRepositories,
  lockUntouchedBlobs,
  markPermanentRepositories,
} from '../../src/db/maintenance/garbage.ts'
import { listBlobs } from '../../src/db/maintenance/inventory.ts'
import { sumBlobs, sumRepositories } from '../../src/db/maintenance/storage-usage.ts'
import { readWatchedValues } from '../../src/db/maintenance/watched-values.ts'
import { listSettings } from '../../src/db/registry/repositories.ts'

const DAYS = 3_650
/** A host that does not exist. */
const HOSTS = [0]
const DEPLOYMENT = '00000000-0000-7000-8000-000000000000'
const LIMIT = 20

/** Statements of loops and commands that find nothing, or little, among many rows. */
export const BACKGROUND: Readonly<Record<string, (db: Transaction) => Promise<unknown>>> = {
  'gc --dry-run': (db) => listCandidates(db, 60, FIRST_CANDIDATE, LIMIT),
  'gc --dry-run, at its end': (db) => countPendingCleanup(db),
  'a sweep of blobs': (db) => lockUntouchedBlobs(db, 60, LIMIT),
  'a sweep of repositories': (db) => lockEmptyRepositories(db, 60, LIMIT),
  'a sweep that keeps repositories': (db) => markPermanentRepositories(db, LIMIT),
  'deletion of bytes': (db) => claimDeletions(db, LIMIT),
  'retention of the audit log': (db) => removeOldAuditEntries(db, DAYS),
  'retention of events': (db) => findExpiredPosition(db, DAYS),
  'the end of deliveries': (db) => expireDeliveries(db, 1, LIMIT),
  'retention of deliveries': (db) => removeDeliveries(db, 0, LIMIT),
  'deliveries of removed webhooks': (db) => removeOrphanedDeliveries(db, LIMIT),
  'removed webhooks': (db) => purgeRemovedWebhooks(db),
  'expired refresh tokens': (db) => removeExpiredRefreshTokens(db),
  'expired revocations': (db) => removeExpiredRevocations(db),
  'recent revocations': (db) => listRevocations(db, 10),
  'expired identity tokens': (db) => removeExpiredIdentityTokens(db),
  'expired upload URLs': (db) => removeExpiredUploadUrls(db),
  'repository list': (db) => listSettings(db, 'open/5', LIMIT),
  'credential list': (db) => listCredentials(db, 'c2', LIMIT),
  'policy list': (db) => listTrustPolicies(db, 'p2', LIMIT),
  'hosts that sent a request': (db) => recordSeen(db, HOSTS, 60),
  'lost hosts': (db) => markLost(db, 180, LIMIT),
  'waiting hosts': (db) => listDesiredVersions(db, HOSTS, undefined),
  'waiting hosts of a deployment': (db) => listDesiredVersions(db, HOSTS, [DEPLOYMENT]),
  'desired units': (db) => listDesired(db, HOSTS),
  'retention of logs': (db) => removeOldUnitLogs(db, DAYS, LIMIT),
  scrub: (db) => listBlobs(db, 100, LIMIT),
  'values for metrics': (db) => readWatchedValues(db, 'storage-usage'),
  'bytes of all blobs, by pages': (db) => sumBlobs(db, 0),
  'bytes of repositories, by pages': (db) => sumRepositories(db, 0, 0),
}
