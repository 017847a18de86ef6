import { type CopyReport, copyStore } from '../../registry/maintenance/copy.ts'
import { openBlobStoreNamed, type StoreName } from '../../server/blob-store.ts'
import { CleanupStack } from '../../server/cleanup.ts'
import {
  type Command,
  parseOptions,
  progressTeller,
  STATUS,
  sizeText,
  stopSignal,
  UsageError,
} from '../command.ts'
import { withState } from './operator.ts'

const FAILURES_SHOWN_MAX = 100

/** `rookery storage copy`: every blob's bytes from one store to the other. */
export const storageCopy: Command = {
  words: ['storage', 'copy'],
  usage: '--from filesystem|s3 --to s3|filesystem [--restart] [--json]',
  summary: 'Copy the bytes of all blobs to the other store, and read them back; can be run again',
  async run(args, environment) {
    const options = parseOptions(args, {
      from: { type: 'string' },
      to: { type: 'string' },
      restart: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    })
    const from = parseStoreName('from', options.from)
    const to = parseStoreName('to', options.to)
    if (from === to) throw new UsageError('--from and --to are the same store')
    return withState(environment, async ({ db, dataFolder }, config) => {
      const cleanup = new CleanupStack()
      const open = async (name: StoreName) => {
        const opened = await openBlobStoreNamed(name, config, dataFolder)
        cleanup.defer(() => opened.close())
        return opened.store
      }
      try {
        const report = await copyStore(db, await open(from), await open(to), {
          name: `${from} to ${to}`,
          restart: options.restart,
          signal: stopSignal(),
          onProgress: progressTeller('copied and read back'),
        })
        process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : textOf(report))
        return report.failures.length === 0 ? STATUS.ok : STATUS.found
      } finally {
        await cleanup.run()
      }
    })
  },
}

function parseStoreName(option: string, text: string | undefined): StoreName {
  if (text === 'filesystem' || text === 's3') return text
  throw new UsageError(`--${option} must be filesystem or s3`)
}

function textOf({
  blobs,
  bytes,
  present,
  failures,
  uploads,
}: CopyReport & { uploads: number }): string {
  const lines = failures
    .slice(0, FAILURES_SHOWN_MAX)
    .map(({ digest, reason }) => `${reason} ${digest}`)
  lines.push(`In place: ${blobs} blobs with ${sizeText(bytes)}, ${present} of them from before.`)
  if (failures.length > 0) lines.push(`Not copied: ${failures.length}; the source lacks them.`)
  if (uploads > 0) {
    lines.push(
      `${uploads} uploads are in progress: their clients have to begin again after a move.`,
    )
  }
  return `${lines.join('\n')}\n`
}
