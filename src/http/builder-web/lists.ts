import { invalidQuery } from '../../oci/errors.ts'
import type { JobRow } from '../../registry/builds/job-builds.ts'
import type { AskQuestion } from '../question-budget.ts'
import { queryOnce, type Route, type RouteContext } from '../route.ts'
import { type BuilderWeb, jobView, ownOf } from './jobs.ts'
import { failedJson, listedJson, solo5Json } from './json.ts'
import { platformOf } from './lookups.ts'

/** A job without a successful build for this time is not on the first page. */
const ACTIVE_DAYS = 30
const DAY_MILLISECONDS = 86_400_000
const FAILED_COUNT = 20
const FAILED_COUNT_MAX = 200
const FAILED_START_MAX = 10_000

const ROBOTS = `User-agent: *
${['f/', 'main-binary', 'script', 'console', 'exec'].map((path) => `Disallow: /job/*/build/*/${path}\n`).join('')}Disallow: /compare/
`

/** Lists the jobs, the builds of a job, and the failed builds of all. */
export function listRoutes({ jobs, jobBuilds }: BuilderWeb, ask: AskQuestion): Route[] {
  const allJobs = (path: string, after: () => Date): Route => ({
    method: 'GET',
    path,
    access: 'publicRead',
    reads: 'question',
    async handle(ctx) {
      const rows = await jobBuilds.listJobs(ask(ctx), ownOf(ctx), after())
      const listed = rows.map((row) => ({
        section: sectionOf(row),
        job: jobJson(jobs.nameOf(row), row),
      }))
      const sections = [...new Set(listed.map(({ section }) => section))]
      ctx.body = {
        jobs: listed.map(({ job }) => job),
        jobs_by_section: Object.fromEntries(
          sections.map((section) => [
            section,
            listed.filter((one) => one.section === section).map(({ job }) => job),
          ]),
        ),
      }
    },
  })
  const jobPage = (path: string, failed: boolean): Route => ({
    method: 'GET',
    path: `/job/:job${path}`,
    access: 'publicRead',
    query: { platform: 'once' },
    reads: 'question',
    async handle(ctx) {
      const db = ask(ctx)
      const view = await jobView(ctx, jobs, db)
      const rows = await jobBuilds.list(db, view, platformOf(ctx), failed)
      ctx.body = { builds: rows.map(listedJson) }
    },
  })
  return [
    allJobs('/', () => new Date(Date.now() - ACTIVE_DAYS * DAY_MILLISECONDS)),
    allJobs('/all-builds', () => new Date(0)),
    jobPage('', false),
    jobPage('/failed', true),
    {
      method: 'GET',
      path: '/failed-builds',
      access: 'publicRead',
      query: { platform: 'once', start: 'once', count: 'once' },
      reads: 'question',
      async handle(ctx) {
        const start = numberOf(ctx, 'start', 0, FAILED_START_MAX)
        const count = numberOf(ctx, 'count', FAILED_COUNT, FAILED_COUNT_MAX)
        const rows = await jobBuilds.listFailed(ask(ctx), ownOf(ctx), platformOf(ctx), start, count)
        ctx.body = { builds: rows.map((row) => failedJson(jobs.nameOf(row), row)) }
      },
    },
    {
      method: 'GET',
      path: '/robots.txt',
      access: 'none',
      reads: 'nothing',
      handle(ctx) {
        ctx.type = 'text/plain'
        ctx.body = ROBOTS
      },
    },
  ]
}

const sectionOf = ({ target }: JobRow) => (target === null ? 'Packages' : 'Unikernels')

/** Formats a job. The synopsis is never null: a program that reads the list would refuse all of it. */
function jobJson(name: string, { buildId, target, abiVersion, devices, synopsis }: JobRow) {
  const job = { name, synopsis: synopsis ?? '' }
  if (target === null || abiVersion === null) return job
  return {
    ...job,
    latest: { uuid: buildId, ...solo5Json({ target, abiVersion, devices: devices ?? [] }) },
  }
}

function numberOf(ctx: RouteContext, name: string, otherwise: number, max: number): number {
  const text = queryOnce(ctx, name) || undefined
  if (text === undefined) return otherwise
  if (/^\d{1,9}$/.test(text) && Number(text) <= max) return Number(text)
  throw invalidQuery(`${name} must be a number from 0 to ${max}`)
}
