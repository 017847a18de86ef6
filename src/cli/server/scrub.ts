import { type Finding, isClean, type ScrubReport, scrub } from '../../registry/maintenance/scrub.ts'
import { command, flag, JSON_OPTION, parsed, withDefault } from '../command.ts'
import { STATUS } from '../errors.ts'
import { progressReporter, stopSignal } from '../long-running.ts'
import { parseNumber } from '../numbers.ts'
import { printResult, sizeText } from '../printing.ts'
import { withStores } from './operator.ts'

const MIB = 1024 * 1024
const RATE_MAX = 100_000
const AGE_SECONDS_MAX = 365 * 86_400

/** `rookery scrub`: reads every blob, and compares the blob store with the database both ways. */
export const scrubCommand = command({
  options: {
    rate: withDefault(
      parsed('MIB', 'read at most this many MiB per second', (name, text) =>
        parseNumber(name, text, 0.001, RATE_MAX),
      ),
      '100',
    ),
    deleteOrphans: flag('delete orphaned blobs: bytes that no row of the database names'),
    olderThan: withDefault(
      parsed('SECONDS', 'treat bytes as orphaned from this age on', (name, text) =>
        parseNumber(name, text, 0, AGE_SECONDS_MAX),
      ),
      '3600',
    ),
    restart: flag('begin at the first blob, not where a stopped run ended'),
    ...JSON_OPTION,
  },
  notes: 'The exit status is 1 when it found something.',
  examples: [
    ['rookery scrub --rate 50', 'verify all blobs with at most 50 MiB per second'],
    ['rookery scrub --delete-orphans', 'also delete orphaned blobs older than an hour'],
  ],
  async run({ rate, deleteOrphans, olderThan, restart, json }, environment) {
    return withStores(environment, async ({ db, store }) => {
      const report = await scrub(db, store, {
        bytesPerSecond: rate * MIB,
        orphanAgeSeconds: olderThan,
        deleteOrphans,
        restart,
        signal: stopSignal(),
        onProgress: progressReporter('read'),
      })
      printResult(json, report, linesOf(report))
      return isClean(report) ? STATUS.ok : STATUS.found
    })
  },
})

const REMEDY =
  'Missing and corrupt blobs are unknown to clients until somebody pushes them again, or brings the bytes back and runs this again.'

function linesOf(report: ScrubReport): string[] {
  return [
    ...report.findings.map(findingText),
    ...(report.missing + report.corrupt > 0 ? [REMEDY] : []),
    ...(report.recovered > 0 ? [`Lost before, and right again: ${report.recovered}.`] : []),
    `Read ${report.blobs} blobs with ${sizeText(report.bytes)}.`,
    `Missing: ${report.missing}. Corrupt: ${report.corrupt}. Orphaned: ${report.orphans} with ${sizeText(report.orphanBytes)}, ${report.deletedOrphans} of them deleted.`,
  ]
}

function findingText(finding: Finding): string {
  switch (finding.kind) {
    case 'missing':
      return `missing ${finding.digest} (${finding.key})`
    case 'corrupt':
      return `corrupt ${finding.digest} (${finding.key}): it is ${finding.found}`
    case 'orphan':
      return `orphan ${finding.name}${finding.deleted ? ' (deleted)' : ''}`
  }
}
