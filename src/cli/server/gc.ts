import { endDeletionPauses, pauseDeletions } from '../../db/maintenance/deletion-queue.ts'
import { GarbageCollector } from '../../registry/maintenance/garbage.ts'
import { sweepAll } from '../../registry/maintenance/gc-loop.ts'
import {
  type Command,
  parseNumber,
  parseOptions,
  STATUS,
  sizeText,
  UsageError,
} from '../command.ts'
import { withState } from './operator.ts'

const HOLD_HOURS_MAX = 24 * 30

/** `rookery gc`: one sweep now, or what it would do, or a pause for a backup. */
export const gc: Command = {
  words: ['gc'],
  usage: '[--dry-run] [--hold HOURS | --release] [--json]',
  summary: 'Remove what nothing names and nobody touched; --hold keeps all bytes for a backup',
  async run(args, environment) {
    const options = parseOptions(args, {
      'dry-run': { type: 'boolean', default: false },
      hold: { type: 'string' },
      release: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    })
    const asked = [options['dry-run'], options.hold !== undefined, options.release]
    if (asked.filter(Boolean).length > 1) {
      throw new UsageError('--dry-run, --hold and --release are three different things')
    }
    const hours =
      options.hold === undefined
        ? undefined
        : parseNumber('hold', options.hold, 0.01, HOLD_HOURS_MAX)
    return withState(environment, async ({ db, store }, config) => {
      if (hours !== undefined) {
        const { until } = await pauseDeletions(db, hours * 3600, 'rookery gc --hold')
        print(options.json, { heldUntil: until.toISOString() }, [
          `No bytes of blobs are removed until ${until.toISOString()}, or rookery gc --release.`,
        ])
        return STATUS.ok
      }
      if (options.release) {
        const released = await endDeletionPauses(db)
        print(options.json, { released }, [`Holds ended: ${released}`])
        return STATUS.ok
      }
      const garbage = new GarbageCollector(db, store, config.gcGraceSeconds)
      if (options['dry-run']) {
        const preview = await garbage.preview(({ digest, size }) => {
          if (!options.json) process.stdout.write(`${digest} ${size}\n`)
        })
        print(options.json, preview, [
          `Would remove ${preview.blobs} blobs with ${sizeText(preview.bytes)}, and ${preview.expiredUploads} expired uploads;`,
          `${preview.queuedDeletions} deletions are queued.`,
        ])
        return STATUS.ok
      }
      const { failures, ...counts } = await sweepAll(garbage)
      print(options.json, { ...counts, failures: failures.length }, [
        `Removed ${counts.blobs} blobs with ${sizeText(counts.bytes)}, and ${counts.uploads} expired uploads;`,
        `the bytes of ${counts.deletions} are gone, ${failures.length} failed and stay queued.`,
      ])
      for (const failure of failures.slice(0, FAILURES_SHOWN_MAX)) {
        process.stderr.write(`rookery: ${failure instanceof Error ? failure.message : failure}\n`)
      }
      return failures.length === 0 ? STATUS.ok : STATUS.found
    })
  },
}

const FAILURES_SHOWN_MAX = 5

function print(json: boolean, value: object, lines: readonly string[]): void {
  process.stdout.write(json ? `${JSON.stringify(value)}\n` : `${lines.join('\n')}\n`)
}
