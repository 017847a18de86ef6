import type { Config } from '../../config/config.ts'
import { type CopyReport, copyStore } from '../../registry/maintenance/copy.ts'
import { openBlobStoreNamed, type StoreName } from '../../server/blob-store.ts'
import { assertCopyTarget, claimStore } from '../../server/claim-store.ts'
import { CleanupStack } from '../../server/cleanup.ts'
import { choice, command, flag, JSON_OPTION, required } from '../command.ts'
import { STATUS, UsageError } from '../errors.ts'
import { progressReporter, stopSignal } from '../long-running.ts'
import { printResult, sizeText } from '../printing.ts'
import { type OpenRegistry, withRegistry } from './operator.ts'

const FAILURES_SHOWN_MAX = 100

const STORES: readonly StoreName[] = ['filesystem', 's3']

/** `rookery storage copy`: the bytes of every blob from one blob store to the other. */
export const storageCopyCommand = command({
  options: {
    from: required(choice('STORE', STORES, 'store to copy from')),
    to: required(choice('STORE', STORES, 'store to copy to')),
    restart: flag('begin at the first blob, not where a stopped run ended'),
    ...JSON_OPTION,
  },
  notes:
    'Run it once while the server runs, and once after it stopped. The exit status is 1 when a blob is missing from the source.',
  examples: [
    ['rookery storage copy --from filesystem --to s3', 'move from the data folder to a bucket'],
  ],
  async run({ from, to, restart, json }, environment) {
    if (from === to) throw new UsageError('--from and --to are the same store')
    const copy = async ({ db, dataFolder }: OpenRegistry, config: Config) => {
      const cleanup = new CleanupStack()
      const open = async (name: StoreName) => {
        const opened = await openBlobStoreNamed(name, config, dataFolder)
        cleanup.defer(() => opened.close())
        return opened.store
      }
      try {
        const [source, target] = [await open(from), await open(to)]
        const mark = await claimStore(db, source)
        await assertCopyTarget(db, target)
        const report = await copyStore(db, source, target, {
          name: `${from} to ${to}`,
          restart,
          signal: stopSignal(),
          onProgress: progressReporter('copied and verified'),
        })
        // Not before: a server must not start with an unfinished copy.
        if (report.failures.length === 0) await target.writeMark(mark)
        printResult(json, report, linesOf(report))
        return report.failures.length === 0 ? STATUS.ok : STATUS.found
      } finally {
        await cleanup.run()
      }
    }
    // It may name the bucket to which the registry moves.
    return withRegistry(environment, copy, { choosesStore: true })
  },
})

function linesOf({
  blobs,
  bytes,
  present,
  failures,
  uploads,
}: CopyReport & { readonly uploads: number }): string[] {
  return [
    ...failures.slice(0, FAILURES_SHOWN_MAX).map(({ digest, reason }) => `${reason} ${digest}`),
    `Copied: ${blobs} blobs with ${sizeText(bytes)}, ${present} of them earlier.`,
    ...(failures.length > 0
      ? [`Not copied: ${failures.length} blobs; they are missing from the source.`]
      : []),
    ...(uploads > 0
      ? [`Uploads in progress: ${uploads}; their clients must begin again after the move.`]
      : []),
  ]
}
