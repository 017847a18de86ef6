import { hostPatterns, maySeeHosts } from '../../auth/access.ts'
import { listRuns, type Run, type RunFilter, type RunPackage } from '../../deployments/runs.ts'
import { parseDigest } from '../../oci/digest.ts'
import { badRequest, invalidQuery } from '../../oci/errors.ts'
import { parseRepository } from '../../oci/reference.ts'
import { versionMatcher } from '../../registry/images/package-search.ts'
import { ECOSYSTEMS } from '../../unikernel/versions/orders.ts'
import { type PageCursors, pageLimit, setNextLink } from '../pages.ts'
import { PAGE } from '../query.ts'
import type { AskQuestion } from '../question-budget.ts'
import { queryOnce, type Route, type RouteContext } from '../route.ts'

const LIMIT = 100
const NEWEST = Number.MAX_SAFE_INTEGER
const DEFAULT_ECOSYSTEM = 'opam'

/** Lists which kernel ran where and when, for callers with `push` or `admin` in its repository. */
export function runRoutes(ask: AskQuestion, cursors: PageCursors): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/runs',
      access: 'authenticated',
      query: {
        ...PAGE,
        ...{ kernel: 'once', repository: 'once', host: 'once', running: 'once' },
        ...{ package: 'once', version: 'once', ecosystem: 'once' },
      },
      reads: 'question',
      async handle(ctx) {
        const { caller } = ctx.state
        const limit = pageLimit(ctx, LIMIT)
        const [filter, wanted] = [filterOf(ctx), packageOf(ctx)]
        const before = cursors.read(ctx) ?? NEWEST
        const patterns = hostPatterns(caller)
        const maySee = (repository: Run['repository']) => maySeeHosts(caller, repository)
        const page = await listRuns(ask(ctx), filter, wanted, patterns, maySee, before, limit)
        if (page.next !== undefined && limit > 0) {
          const given = Object.fromEntries(new URLSearchParams(ctx.querystring))
          setNextLink(ctx, { ...given, last: cursors.format(page.next), n: String(limit) })
        }
        ctx.body = { runs: page.runs.map(runJson) }
      },
    },
  ]
}

function filterOf(ctx: RouteContext): RunFilter {
  const value = (name: string) => queryOnce(ctx, name) || undefined
  const [kernel, repository, running] = [value('kernel'), value('repository'), value('running')]
  if (running !== undefined && running !== '1') {
    throw invalidQuery('running must be 1: it finds only what still runs', { parameter: 'running' })
  }
  return {
    kernel: kernel === undefined ? undefined : parseDigest(kernel),
    repository: repository === undefined ? undefined : parseRepository(repository),
    host: value('host'),
    running: running === undefined ? undefined : true,
  }
}

function packageOf(ctx: RouteContext): RunPackage | undefined {
  const name = queryOnce(ctx, 'package') || undefined
  const version = queryOnce(ctx, 'version') || undefined
  const text = queryOnce(ctx, 'ecosystem') || undefined
  if (name === undefined) {
    if (version === undefined && text === undefined) return undefined
    throw badRequest('version and ecosystem need a package')
  }
  const ecosystem = ECOSYSTEMS.find((one) => one === (text ?? DEFAULT_ECOSYSTEM))
  if (ecosystem === undefined) {
    throw invalidQuery(`ecosystem must be one of ${ECOSYSTEMS.join(', ')}`, {
      parameter: 'ecosystem',
    })
  }
  return {
    ...{ ecosystem, name },
    isWanted: version === undefined ? undefined : versionMatcher(ecosystem, version),
  }
}

function runJson({ host, unit, repository, kernel, from, to, versions }: Run): object {
  return {
    ...{ host, unit, repository, kernel },
    ...{ from: from.toISOString(), to: to?.toISOString() ?? null },
    ...(versions === undefined ? {} : { versions: versions.map((one) => one || null) }),
  }
}
