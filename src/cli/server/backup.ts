import { join, resolve } from 'node:path'
import { findInstallation } from '../../db/installation.ts'
import {
  endDeletionPause,
  endDeletionPausesOf,
  pauseDeletions,
} from '../../db/maintenance/deletion-queue.ts'
import { dumpRows } from '../../db/maintenance/dump.ts'
import { type JobLock, runExclusively } from '../../db/maintenance/jobs.ts'
import { findLastBackup, recordBackup } from '../../db/maintenance/last-backup.ts'
import { listAppliedMigrations } from '../../db/migrations.ts'
import { copyBlobs } from '../../registry/maintenance/copy.ts'
import { makeOwnFolder } from '../../server/own-folder.ts'
import type { Stores } from '../../server/stores.ts'
import type { BlobStore } from '../../storage/blob-store.ts'
import { FilesystemStore } from '../../storage/filesystem/filesystem-store.ts'
import { command, flag, JSON_OPTION, parsed, value } from '../command.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { progressReporter, stopSignal } from '../long-running.ts'
import { parseNumber } from '../numbers.ts'
import { printJson, printLines, printResult, printTable, sizeText, utcText } from '../printing.ts'
import { discardPartials, type Expired, expireGenerations, type KeepRule } from './backup-expiry.ts'
import {
  beginGeneration,
  copySecrets,
  DUMP_FILE,
  findGeneration,
  finishGeneration,
  isComplete,
  listGenerations,
  listPartials,
  removePartial,
} from './backup-folder.ts'
import { verifyGeneration, verifyLines } from './backup-verify.ts'
import { readDumpBlobs, writeDump } from './dump-file.ts'
import { withCleanup, withRegistry, withStores } from './operator.ts'

/** Longer than a backup takes. A backup that was killed pauses deletions for this time, or until the next one. */
const PAUSE_SECONDS = 7 * 86_400
const PAUSE_REASON = 'rookery backup'
const FAILURES_SHOWN_MAX = 100
const KEPT_MAX = 10_000

const parseCount = (name: string, text: string): number => {
  const count = parseNumber(name, text, 1, KEPT_MAX)
  if (Number.isInteger(count)) return count
  throw new UsageError(`${name} must be a whole number, not "${text}"`)
}

/** `rookery backup`: a snapshot of the database and the bytes of every blob that it names; and what a folder of them has. */
export const backupCommand = command({
  options: {
    to: value('FOLDER', 'folder of the backups, created when it is missing'),
    keep: parsed('N', 'then remove old backups, except the newest N', parseCount),
    keepDaily: parsed(
      'N',
      'then remove old backups, except the newest of each of the last N days that have one',
      parseCount,
    ),
    list: flag('list the backups of the folder, and make none'),
    verify: flag('read the newest backup of the folder, and make none'),
    generation: value('NAME', 'with --verify: read this one'),
    last: flag('print when the last complete backup was taken, to any folder'),
    ...JSON_OPTION,
  },
  notes:
    'Backups of one folder share the bytes of blobs: each copies only new ones. With --keep and --keep-daily, a backup stays if either keeps it. Nothing is removed before the new backup is complete and verified. The exit status is 1 when something is missing or damaged, and with --last when there is no backup.',
  examples: [
    ['rookery backup --to /backup/rookery', 'back up while the registry runs'],
    ['rookery backup --to /backup/rookery --keep 3 --keep-daily 14', 'the same, for a timer'],
    ['rookery backup --to /backup/rookery --verify', 'read the newest backup'],
  ],
  async run({ to, keep, keepDaily, list, verify, generation, last, json }, environment) {
    if (
      [list, verify, last, keep !== undefined || keepDaily !== undefined].filter(Boolean).length > 1
    ) {
      throw new UsageError('--list, --verify, --last and --keep exclude each other')
    }
    if (generation !== undefined && !verify) throw new UsageError('--generation needs --verify')
    if (last) return withRegistry(environment, ({ db }) => printLast(db, json))
    if (to === undefined || to === '') {
      throw new UsageError('--to <FOLDER> must be the folder of the backups')
    }
    const folder = resolve(to)
    if (list) return withCleanup(environment, () => printGenerations(folder, json))
    if (verify) return withCleanup(environment, () => printVerified(folder, generation, json))
    const isKept = keep !== undefined || keepDaily !== undefined
    const rule = isKept ? { last: keep ?? 1, daily: keepDaily ?? 0 } : undefined
    return withStores(environment, (stores) =>
      runExclusively(stores.db, 'backup', (lock) => backUp(folder, stores, { rule, lock, json })),
    )
  },
})

async function backUp(
  folder: string,
  { db, store, dataFolder }: Stores,
  { rule, lock, json }: { rule: KeepRule | undefined; lock: JobLock; json: boolean },
): Promise<number> {
  await makeOwnFolder(folder, 0o700)
  const { id: installation } = await findInstallation(db)
  await assertOwnBackups(folder, installation)
  const target = await FilesystemStore.open(folder)
  await removeAsides(target)
  const signal = stopSignal()
  // Nobody else makes a backup of this registry now: a pause was left by one that was killed.
  await endDeletionPausesOf(db, PAUSE_REASON)
  // From here on, no bytes that the dump may name are deleted.
  const pause = await pauseDeletions(db, PAUSE_SECONDS, PAUSE_REASON)
  try {
    const began = performance.now()
    const time = new Date()
    const { name, partial } = await beginGeneration(folder, time)
    const takenAt = time.toISOString()
    const migrations = await listAppliedMigrations(db)
    const header = { rookery: 'database', version: 1, takenAt, migrations, installation } as const
    const dump = join(partial, DUMP_FILE)
    const rows = await writeDump(dump, header, (take) => dumpRows(db, take)).catch(
      async (error: unknown) => {
        await removePartial(partial)
        throw error
      },
    )
    const files = await copySecrets(dataFolder, partial)
    const problems = await discardPartials(folder, target, partial)
    const reportProgress = progressReporter('copied and verified')
    const report = await copyBlobs(readDumpBlobs(dump), store, target, {
      signal,
      onPage: async (soFar) => {
        lock.assertHeld()
        reportProgress(soFar)
      },
      isReferenced: async () => true,
    })
    const { failures, ...counts } = report
    const { blobs, bytes } = counts
    const lost = failures.filter((failure) => failure.lost).length
    const missing = failures.length - lost
    const summary = { takenAt, installation, rows, blobs, bytes, lost, missing, files }
    await finishGeneration(partial, { rookery: 'backup', version: 1, ...summary })
    problems.push(...(await listAhead(folder, name)))
    let expired: Expired | undefined
    if (missing === 0) {
      const seconds = (performance.now() - began) / 1000
      await recordBackup(db, { name, folder, rows, blobs, bytes }, seconds)
      if (rule !== undefined) expired = await expireGenerations(folder, target, rule, name)
      problems.push(...(expired?.problems ?? []))
    }
    const removed = expired?.removed ?? []
    printResult(
      json,
      { folder, name, takenAt, rows, ...counts, lost, failures, removed, problems },
      [
        ...failures
          .slice(0, FAILURES_SHOWN_MAX)
          .map(
            ({ digest, reason, lost: isLost }) => `${isLost ? 'lost before' : reason} ${digest}`,
          ),
        ...problems.slice(0, FAILURES_SHOWN_MAX),
        `Backup ${name} in ${folder}: ${rows} rows, and ${blobs} blobs with ${sizeText(bytes)}, ${counts.present} of them from an earlier backup.`,
        ...(missing > 0 ? [INCOMPLETE] : []),
        ...(removed.length > 0
          ? [
              `Removed ${removed.join(', ')}, and ${expired?.blobs} blobs that no other backup names.`,
            ]
          : []),
        ...(expired !== undefined && expired.problems.length > 0 ? [NOTHING_REMOVED] : []),
      ],
    )
    return failures.length + problems.length === 0 ? STATUS.ok : STATUS.found
  } finally {
    await endDeletionPause(db, pause.id)
  }
}

const INCOMPLETE =
  'This backup is not complete: restore refuses it, and no old backup was removed. Run rookery scrub.'
const NOTHING_REMOVED =
  'No old backup was removed: move the damaged files away, and run the backup again.'

/** Throws CommandError when the folder has backups of another registry. */
async function assertOwnBackups(folder: string, installation: string): Promise<void> {
  for (const { name, summary } of await listGenerations(folder)) {
    if (summary === undefined || summary.installation === installation) continue
    throw new CommandError(
      `${folder} has the backup ${name} of another registry (installation ${summary.installation}; this one is ${installation}): use a folder of its own`,
    )
  }
}

/** A restore takes the newest backup by its name, which must not be one that a wrong clock named. */
async function listAhead(folder: string, made: string): Promise<string[]> {
  const ahead = (await listGenerations(folder)).filter(({ name }) => name > made)
  return ahead.map(
    ({ path }) => `ahead ${path}: the clock was wrong; rename this folder to the right time`,
  )
}

/** Removes the bytes that a backup was copying when it was killed. */
async function removeAsides(target: BlobStore): Promise<void> {
  for await (const object of target.list('uploads')) {
    if (object.upload !== undefined) await target.removeObject(object)
  }
}

async function printVerified(
  folder: string,
  name: string | undefined,
  json: boolean,
): Promise<number> {
  const generation = await findGeneration(folder, name)
  const report = await verifyGeneration(folder, generation, {
    signal: stopSignal(),
    onProgress: progressReporter('read'),
  })
  printResult(json, report, verifyLines(report))
  return report.problems.length === 0 ? STATUS.ok : STATUS.found
}

async function printGenerations(folder: string, json: boolean): Promise<number> {
  const generations = await listGenerations(folder)
  const interrupted = (await listPartials(folder)).length
  const listed = generations.map((generation) => {
    const { name, summary, isEarlier } = generation
    const damaged = summary === undefined && !isEarlier
    const state = damaged ? 'damaged' : isComplete(generation) ? 'complete' : 'incomplete'
    const { rows, blobs, bytes, lost, missing } = summary ?? {}
    return { name, state, rows, blobs, bytes, lost, missing }
  })
  if (json) printJson({ folder, backups: listed, interrupted })
  else {
    const cells = listed.map(({ name, state, rows, blobs, bytes }) => [
      ...[name, state, String(rows ?? ''), String(blobs ?? '')],
      bytes === undefined ? '' : sizeText(bytes),
    ])
    printTable(['NAME', 'STATE', 'ROWS', 'BLOBS', 'SIZE'], cells)
    if (interrupted > 0) printLines([`Interrupted: ${interrupted}. The next backup removes them.`])
  }
  return listed.every(({ state }) => state === 'complete') ? STATUS.ok : STATUS.found
}

async function printLast(db: Stores['db'], json: boolean): Promise<number> {
  const last = await findLastBackup(db)
  if (last === undefined) printResult(json, null, ['There is no complete backup of this registry.'])
  else {
    const { name, folder, rows, blobs, bytes, takenAt, ageSeconds } = last
    printResult(json, last, [
      `The last complete backup is ${ageText(ageSeconds)} old: taken at ${utcText(takenAt)}, ${name} in ${folder}.`,
      `It has ${rows} rows, and ${blobs} blobs with ${sizeText(bytes)}.`,
    ])
  }
  return last === undefined ? STATUS.found : STATUS.ok
}

function ageText(seconds: number): string {
  if (seconds < 120) return `${Math.floor(seconds)} seconds`
  if (seconds < 7200) return `${Math.floor(seconds / 60)} minutes`
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} hours`
  return `${Math.floor(seconds / 86_400)} days`
}
