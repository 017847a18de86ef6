import { allows, pullablePatterns } from '../../auth/access.ts'
import { notFound, RegistryError } from '../../oci/errors.ts'
import type { Glob } from '../../oci/glob.ts'
import { isUuidInAnyCase } from '../../oci/uuid.ts'
import type { ExecUploads } from '../../registry/builds/exec-uploads.ts'
import type { JobBuilds } from '../../registry/builds/job-builds.ts'
import type { Jobs } from '../../registry/builds/jobs.ts'
import type { QuestionQueryable } from '../../registry/questions.ts'
import type { View } from '../../registry/repositories.ts'
import { param, type RouteContext } from '../route.ts'

/** The operations that programs of builder-web use. */
export type BuilderWeb = {
  readonly jobs: Jobs
  readonly jobBuilds: JobBuilds
  readonly execUploads: ExecUploads
}

/**
 * Returns the view of the caller on the repository of `:job`. Throws NOT_FOUND for a name that no repository can have: a
 * private repository looks the same to those who may not see it.
 */
export async function jobView(
  ctx: RouteContext,
  jobs: Jobs,
  db?: QuestionQueryable,
): Promise<View> {
  const { caller } = ctx.state
  try {
    const mayPull = (one: View['repository']) => allows(caller, 'pull', one)
    const repository = await jobs.follow(param(ctx, 'job'), mayPull, db)
    return { repository, publicOnly: !mayPull(repository) }
  } catch (error) {
    if (!(error instanceof RegistryError) || error.code !== 'NAME_INVALID') throw error
    throw notFound('there is no such job', { cause: error })
  }
}

/** Returns the path of a build of the job in the path. */
export function pathOfBuild(job: string, id: string): string {
  return `/job/${encodeURIComponent(job)}/build/${id}`
}

/** Returns a UUID of the path. Throws NOT_FOUND: the path is that of no build. */
export function buildIdOf(ctx: RouteContext, name = 'build'): string {
  const id = param(ctx, name)
  if (!isUuidInAnyCase(id)) throw notFound('the id of a build is a UUID')
  return id.toLowerCase()
}

/** Returns the patterns of the private repositories that the caller may pull from. */
export function ownOf(ctx: RouteContext): readonly Glob[] {
  return pullablePatterns(ctx.state.caller)
}

/** Redirects to a path of this server: clients of builder-web accept no whole URL. */
export function redirectTo(ctx: RouteContext, path: string): void {
  ctx.status = 307
  ctx.set('Location', path)
  ctx.body = ''
}
