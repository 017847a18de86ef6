import { type AuditFilter, AuditLog, type AuditRow } from '../../auth/audit.ts'
import { parseRepository } from '../../oci/reference.ts'
import { type Command, parseOptions, STATUS, UsageError } from '../command.ts'
import { parseSince } from '../durations.ts'
import { printJson, printLines, utcText, visible } from '../printing.ts'
import { withRegistry } from './operator.ts'

const LIMIT_DEFAULT = '100'
const LIMIT_MAX = 10_000
const PAGE = 500
const DECISIONS: readonly string[] = ['allowed', 'refused']

/** `rookery audit`: who did what, or was not allowed to; the newest first. */
export const auditCommand: Command = {
  words: ['audit'],
  usage:
    '[--actor NAME] [--repository REPOSITORY] [--action ACTION] [--decision allowed|refused] [--since 24h|TIME] [--limit N] [--json]',
  summary:
    'Tell who did what, or was not allowed to, the newest first; --json has one object a line',
  async run(args, environment) {
    const options = parseOptions(args, {
      actor: { type: 'string' },
      repository: { type: 'string' },
      action: { type: 'string' },
      decision: { type: 'string' },
      since: { type: 'string' },
      limit: { type: 'string', default: LIMIT_DEFAULT },
      json: { type: 'boolean', default: false },
    })
    const { actor, repository, action, decision } = options
    const limit = parseLimit(options.limit)
    if (decision !== undefined && !DECISIONS.includes(decision)) {
      throw new UsageError(`--decision must be allowed or refused, not "${decision}"`)
    }
    const since = options.since === undefined ? undefined : parseSince('since', options.since)
    return withRegistry(environment, async ({ db }) => {
      if (repository !== undefined) parseRepository(repository)
      const filters = { actor, repository, action, decision, since }
      const print = options.json ? printObjects : printTexts
      for await (const page of pagesOf(new AuditLog(db, () => {}), filters, limit)) print(page)
      return STATUS.ok
    })
  },
}

type Filters = Omit<AuditFilter, 'before' | 'limit'>

async function* pagesOf(
  audit: AuditLog,
  filters: Filters,
  limit: number,
): AsyncGenerator<AuditRow[]> {
  let before = Number.MAX_SAFE_INTEGER
  for (let left = limit; left > 0; left -= PAGE) {
    const asked = Math.min(left, PAGE)
    const page = await audit.list({ ...filters, before, limit: asked })
    yield page
    before = page.at(-1)?.id ?? 0
    if (page.length < asked) return
  }
}

function parseLimit(text: string): number {
  const limit = Number(text)
  if (!/^\d+$/.test(text) || limit < 1 || limit > LIMIT_MAX) {
    throw new UsageError(`--limit must be a whole number from 1 to ${LIMIT_MAX}, not "${text}"`)
  }
  return limit
}

function printObjects(rows: readonly AuditRow[]): void {
  for (const row of rows) printJson(row)
}

function printTexts(rows: readonly AuditRow[]): void {
  printLines(rows.map(textOf))
}

/** What there is, in one line; what is missing takes no place. */
function textOf(row: AuditRow): string {
  const place = [
    row.repository,
    ...(row.tags ?? []).map((tag) => `:${tag}`),
    row.digest === null ? null : `@${row.digest}`,
  ]
  const parts = [
    utcText(row.at),
    row.decision === 'refused' ? 'refused' : 'allowed',
    row.action,
    row.actor ?? '(nobody)',
    place.filter((part) => part !== null).join(''),
    row.address === null ? '' : `from ${row.address}`,
    row.origin === null ? '' : `by ${row.origin}`,
    row.tokenId === null ? '' : `token ${row.tokenId}`,
    row.detail ?? '',
  ]
  return parts
    .filter((part) => part !== '')
    .map(visible)
    .join('  ')
}
