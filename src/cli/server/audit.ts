import { type AuditFilter, AuditLog, type AuditPage, type AuditRow } from '../../auth/audit.ts'
import { parseRepository } from '../../oci/reference.ts'
import { choice, command, flag, parsed, value } from '../command.ts'
import { parseSince } from '../durations.ts'
import { STATUS, UsageError } from '../errors.ts'
import { stopSignal } from '../long-running.ts'
import { LIMIT_OPTION } from '../numbers.ts'
import { printJson, printTable, utcText } from '../printing.ts'
import { exportEntries } from './audit-export.ts'
import { withRegistry } from './operator.ts'

const PAGE = 500

/** `rookery audit`: changes and refusals with their actors. */
export const auditCommand = command({
  options: {
    actor: value('NAME', 'only this actor, such as a credential or operator'),
    repository: value('REPOSITORY', 'only this repository'),
    action: value('ACTION', 'only this action, such as push or create-credential'),
    decision: choice('DECISION', ['allowed', 'refused'], 'only this decision'),
    since: parsed('TIME', 'only since a time, or a duration ago such as 24h', parseSince),
    ...LIMIT_OPTION,
    after: parsed('ID', 'print all entries after this id, oldest first', parseId),
    cursorFile: value('FILE', 'the same after the id in this file, and store the last id there'),
    follow: flag('the same, and wait for new entries'),
    json: flag('print one JSON object per line'),
  },
  examples: [
    ['rookery audit --since 24h', 'show the changes of the last day'],
    ['rookery audit --decision refused --json', 'print refused requests as JSON'],
    ['rookery audit --follow --cursor-file audit.cursor', 'export all entries, as they come'],
  ],
  notes: 'With --after, --cursor-file or --follow it prints one JSON object per line.',
  async run({ json, limit, after, cursorFile, follow, ...filter }, environment) {
    return withRegistry(environment, async ({ db }) => {
      const { repository } = filter
      if (repository !== undefined) parseRepository(repository)
      if (follow || after !== undefined || cursorFile !== undefined) {
        const options = { after, cursorFile, follow, signal: stopSignal() }
        return exportEntries(new AuditLog(db, () => {}), filter, options)
      }
      const rows: AuditRow[] = []
      for await (const page of pagesOf(new AuditLog(db, () => {}), filter, limit)) {
        if (json) for (const row of page) printJson(row)
        else rows.push(...page)
      }
      if (!json) printTable(HEADINGS, rows.map(cellsOf))
      return STATUS.ok
    })
  },
})

function parseId(flag: string, text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new UsageError(`${flag} must be the id of an entry, not "${text}"`)
}

async function* pagesOf(
  audit: AuditLog,
  filter: Omit<AuditFilter, 'before' | 'limit'>,
  limit: number,
): AsyncGenerator<readonly AuditRow[]> {
  let before: number | undefined = Number.MAX_SAFE_INTEGER
  for (let left = limit; left > 0 && before !== undefined; ) {
    const page: AuditPage = await audit.list({ ...filter, before, limit: Math.min(left, PAGE) })
    yield page.entries
    before = page.next
    left -= page.entries.length
  }
}

const HEADINGS = [
  'TIME',
  'DECISION',
  'ACTION',
  'ACTOR',
  'OBJECT',
  'ADDRESS',
  'ORIGIN',
  'TOKEN',
  'DETAIL',
]

function cellsOf(row: AuditRow): string[] {
  const object = [
    row.repository,
    ...(row.tags ?? []).map((tag) => `:${tag}`),
    row.digest === null ? null : `@${row.digest}`,
  ]
  return [
    utcText(row.at),
    row.decision,
    row.action,
    row.actor ?? 'anonymous',
    object.join('') || '-',
    row.address ?? '-',
    row.origin ?? '-',
    row.tokenId ?? '-',
    row.detail ?? '',
  ]
}
