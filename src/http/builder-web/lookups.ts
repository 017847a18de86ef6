import { parseDigest } from '../../oci/digest.ts'
import { invalidQuery, notFound } from '../../oci/errors.ts'
import { isPlatform } from '../../unikernel/build-claims.ts'
import type { AskQuestion } from '../question-budget.ts'
import { param, queryOnce, type Route, type RouteContext } from '../route.ts'
import { type BuilderWeb, jobView, ownOf, pathOfBuild, redirectTo } from './jobs.ts'

const SHA256 = /^[0-9a-f]{64}$/i
const LATEST = '/job/:job/build/latest'

/** Redirects from the hash of a file to its build, and to the latest build of a job. */
export function lookupRoutes({ jobs, jobBuilds }: BuilderWeb, ask: AskQuestion): Route[] {
  async function pathOfLatest(ctx: RouteContext): Promise<string> {
    const db = ask(ctx)
    const view = await jobView(ctx, jobs, db)
    const { id } = await jobBuilds.latest(db, view, platformOf(ctx))
    return pathOfBuild(param(ctx, 'job'), id)
  }
  return [
    {
      method: 'GET',
      path: '/hash',
      access: 'publicRead',
      query: { sha256: 'once' },
      reads: 'question',
      async handle(ctx) {
        const hex = queryOnce(ctx, 'sha256') ?? ''
        if (!SHA256.test(hex)) throw invalidQuery('sha256 must have 64 hexadecimal digits')
        const digest = parseDigest(`sha256:${hex.toLowerCase()}`)
        const build = await jobBuilds.findByFile(ask(ctx), ownOf(ctx), digest)
        if (build === undefined) throw notFound('no build has a file with this SHA-256')
        redirectTo(ctx, pathOfBuild(jobs.nameOf(build), build.id))
      },
    },
    {
      method: 'GET',
      path: LATEST,
      access: 'publicRead',
      query: { platform: 'once' },
      reads: 'question',
      async handle(ctx) {
        redirectTo(ctx, await pathOfLatest(ctx))
      },
    },
    {
      method: 'GET',
      path: `${LATEST}/*path`,
      access: 'publicRead',
      query: { platform: 'once' },
      reads: 'question',
      async handle(ctx) {
        const rest = param(ctx, 'path').split('/').map(encodeURIComponent).join('/')
        redirectTo(ctx, `${await pathOfLatest(ctx)}/${rest}`)
      },
    },
  ]
}

/** Reads the parameter `platform`. Throws QUERY_INVALID. */
export function platformOf(ctx: RouteContext): string | undefined {
  const platform = queryOnce(ctx, 'platform') || undefined
  if (platform === undefined || isPlatform(platform)) return platform
  throw invalidQuery('platform must be a word such as debian-12')
}
