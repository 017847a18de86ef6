import { type Finding, isClean, type ScrubReport, scrub } from '../../registry/maintenance/scrub.ts'
import {
  type Command,
  parseNumber,
  parseOptions,
  progressTeller,
  STATUS,
  sizeText,
  stopSignal,
} from '../command.ts'
import { withState } from './operator.ts'

const MIB = 1024 * 1024
const RATE_DEFAULT = '100'
const RATE_MAX = 100_000
const ORPHAN_AGE_DEFAULT = '3600'
const AGE_SECONDS_MAX = 365 * 86_400

/** `rookery scrub`: reads every blob, and compares the store with the database both ways. */
export const scrubCommand: Command = {
  words: ['scrub'],
  usage: '[--rate MIB_A_SECOND] [--delete-orphans] [--older-than SECONDS] [--restart] [--json]',
  summary: 'Read every blob for its digest; find bytes that lack, are wrong, or belong to nothing',
  async run(args, environment) {
    const options = parseOptions(args, {
      rate: { type: 'string', default: RATE_DEFAULT },
      'delete-orphans': { type: 'boolean', default: false },
      'older-than': { type: 'string', default: ORPHAN_AGE_DEFAULT },
      restart: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    })
    const rate = parseNumber('rate', options.rate, 0.001, RATE_MAX)
    const age = parseNumber('older-than', options['older-than'], 0, AGE_SECONDS_MAX)
    return withState(environment, async ({ db, store }) => {
      const report = await scrub(db, store, {
        bytesPerSecond: rate * MIB,
        orphanAgeSeconds: age,
        deleteOrphans: options['delete-orphans'],
        restart: options.restart,
        signal: stopSignal(),
        onProgress: progressTeller('read'),
      })
      process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : textOf(report))
      return isClean(report) ? STATUS.ok : STATUS.found
    })
  },
}

function textOf(report: ScrubReport): string {
  const lines = report.findings.map(lineOf)
  lines.push(`Read ${report.blobs} blobs with ${sizeText(report.bytes)}.`)
  lines.push(
    `Missing: ${report.missing}. Corrupt: ${report.corrupt}. Orphaned: ${report.orphans} with ${sizeText(report.orphanBytes)}, ${report.deletedOrphans} of them deleted.`,
  )
  return `${lines.join('\n')}\n`
}

function lineOf(finding: Finding): string {
  switch (finding.kind) {
    case 'missing':
      return `missing ${finding.digest} (${finding.key})`
    case 'corrupt':
      return `corrupt ${finding.digest} (${finding.key}): it is ${finding.found}`
    case 'orphan':
      return `orphan ${finding.name}${finding.deleted ? ' (deleted)' : ''}`
  }
}
