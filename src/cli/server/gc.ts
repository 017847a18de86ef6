import { endDeletionPauses, pauseDeletions } from '../../db/maintenance/deletion-queue.ts'
import { GarbageCollector } from '../../registry/maintenance/garbage.ts'
import { sweepAll } from '../../registry/maintenance/gc-loop.ts'
import { command, flag, JSON_OPTION, parsed } from '../command.ts'
import { reasonOf, STATUS, UsageError } from '../errors.ts'
import { parseNumber } from '../numbers.ts'
import { printLines, printResult, sizeText } from '../printing.ts'
import { withStores } from './operator.ts'

const PAUSE_HOURS_MAX = 24 * 30
const FAILURES_SHOWN_MAX = 5
const DIGEST_COLUMNS = 71

/** `rookery gc`: one sweep now, its preview, or a pause of deletions for a backup. */
export const gcCommand = command({
  options: {
    dryRun: flag('list the blobs that a sweep would delete, and delete nothing'),
    hold: parsed('HOURS', `delete no blobs for HOURS, up to ${PAUSE_HOURS_MAX}`, (name, text) =>
      parseNumber(name, text, 0.01, PAUSE_HOURS_MAX),
    ),
    release: flag('end all pauses of deletion'),
    ...JSON_OPTION,
  },
  notes:
    'The server runs a sweep every ROOKERY_GC_INTERVAL_SECONDS as well. The grace period is ROOKERY_GC_GRACE_SECONDS. The exit status is 1 when a deletion failed; it stays queued.',
  examples: [
    ['rookery gc --dry-run', 'list the blobs that a sweep would delete'],
    ['rookery gc', 'delete them now'],
    ['rookery gc --hold 12', 'keep all blobs for 12 hours, for a backup with other tools'],
  ],
  async run({ dryRun, hold: hours, release, json }, environment) {
    if ([dryRun, hours !== undefined, release].filter(Boolean).length > 1) {
      throw new UsageError('--dry-run, --hold and --release exclude each other')
    }
    return withStores(environment, async ({ db, store }, config) => {
      if (hours !== undefined) {
        const { until } = await pauseDeletions(db, hours * 3600, 'rookery gc --hold')
        const time = until.toISOString()
        const line = `No blob is deleted until ${time}. rookery gc --release ends the pause.`
        printResult(json, { heldUntil: time }, [line])
        return STATUS.ok
      }
      if (release) {
        const released = await endDeletionPauses(db)
        printResult(json, { released }, [`Deletion pauses ended: ${released}`])
        return STATUS.ok
      }
      const garbage = new GarbageCollector(db, store, config.gcGraceSeconds)
      return dryRun ? preview(garbage, json) : sweep(garbage, json)
    })
  },
})

async function preview(garbage: GarbageCollector, json: boolean): Promise<number> {
  let listed = 0
  const report = await garbage.preview(({ digest, size }) => {
    if (json) return
    if (listed === 0) printLines([`${'DIGEST'.padEnd(DIGEST_COLUMNS)}  BYTES`])
    listed += 1
    printLines([`${digest.padEnd(DIGEST_COLUMNS)}  ${size}`])
  })
  printResult(json, report, [
    `Would delete ${report.blobs} blobs with ${sizeText(report.bytes)}, and ${report.expiredUploads} expired uploads.`,
    `Deletions in the queue: ${report.queuedDeletions}.`,
  ])
  return STATUS.ok
}

async function sweep(garbage: GarbageCollector, json: boolean): Promise<number> {
  const { failures, ...counts } = await sweepAll(garbage)
  printResult(json, { ...counts, failures: failures.length }, [
    `Deleted ${counts.blobs} blobs with ${sizeText(counts.bytes)}, ${counts.uploads} expired uploads and ${counts.repositories} empty repositories.`,
    `Removed from the store: ${counts.deletions}. Failed and still queued: ${failures.length}.`,
  ])
  for (const failure of failures.slice(0, FAILURES_SHOWN_MAX)) {
    process.stderr.write(`rookery: ${reasonOf(failure)}\n`)
  }
  return failures.length === 0 ? STATUS.ok : STATUS.found
}
