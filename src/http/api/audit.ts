import type { AuditLog, AuditRow } from '../../auth/audit.ts'
import { invalidQuery } from '../../oci/errors.ts'
import { parseRepository, type Repository } from '../../oci/reference.ts'
import { pageLimit, pageNumber, setNextLink } from '../pages.ts'
import type { QueryParameters } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { queryOnce, type Route } from '../route.ts'

const PAGE_DEFAULT = 100
const FILTERS = {
  action: 'once',
  actor: 'once',
  repository: 'once',
  decision: 'once',
  since: 'once',
} as const satisfies QueryParameters

/** Lists the entries of the audit log: newest first, or with `after` oldest first, for an export that follows. */
export function auditRoutes(audit: AuditLog, ask: AskQuestion): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/audit',
      access: 'admin',
      query: { ...FILTERS, n: 'once', before: 'once', after: 'once' },
      reads: 'question',
      async handle(ctx) {
        const limit = pageLimit(ctx, PAGE_DEFAULT)
        const filters = {
          action: queryOnce(ctx, 'action'),
          actor: queryOnce(ctx, 'actor'),
          repository: repositoryOf(queryOnce(ctx, 'repository')),
          decision: decisionOf(queryOnce(ctx, 'decision')),
          since: queryOnce(ctx, 'since'),
        }
        const filter = { ...filters, since: timeOf(filters.since), limit }
        const [before, after] = [pageNumber(ctx, 'before'), pageNumber(ctx, 'after')]
        if (after !== undefined) {
          if (before !== undefined) throw invalidQuery('before and after exclude each other')
          const { entries, next, more } = await audit.listAfter({ ...filter, after }, ask(ctx))
          if (more) setNextLink(ctx, { ...filters, after: String(next), n: String(limit) })
          ctx.body = { entries: entries satisfies readonly AuditRow[], next }
          return
        }
        const page = await audit.list(
          { ...filter, before: before ?? Number.MAX_SAFE_INTEGER },
          ask(ctx),
        )
        if (page.next !== undefined) {
          setNextLink(ctx, { ...filters, before: String(page.next), n: String(limit) })
        }
        ctx.body = { entries: page.entries satisfies readonly AuditRow[] }
      },
    },
  ]
}

function repositoryOf(text: string | undefined): Repository | undefined {
  return text === undefined ? undefined : parseRepository(text)
}

function decisionOf(text: string | undefined): AuditRow['decision'] | undefined {
  if (text === undefined || text === 'allowed' || text === 'refused') return text
  throw invalidQuery('decision must be allowed or refused')
}

function timeOf(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined
  const time = new Date(text)
  // A Date can be earlier than the earliest time of Postgres.
  if (!(time.getTime() >= 0))
    throw invalidQuery('since must be a time such as 2030-01-31T12:00:00Z')
  return time
}
