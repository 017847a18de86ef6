import { badRequest } from '../../oci/errors.ts'
import { parseTagGlob } from '../../oci/glob.ts'
import type { Repositories, RepositorySettings } from '../../registry/repositories.ts'
import { actorOf, type Route, type RouteContext, repositoryOf } from '../route.ts'
import { readFields } from './json-fields.ts'

const REPOSITORY = '/api/v1/repositories/*repository'
const PATH = `${REPOSITORY}/settings`

/** The routes for the settings of a repository (visibility, immutable tags and provenance), and for its deletion. */
export function repositoryRoutes(repositories: Repositories): Route[] {
  return [
    {
      method: 'GET',
      path: PATH,
      access: 'admin',
      reads: 'rows',
      async handle(ctx) {
        ctx.body = await repositories.settings(repositoryOf(ctx))
      },
    },
    {
      method: 'PUT',
      path: PATH,
      access: 'admin',
      changesEveryTag: true,
      async handle(ctx) {
        const change = await readSettings(ctx)
        ctx.body = await repositories.change(repositoryOf(ctx), change, actorOf(ctx))
      },
    },
    {
      method: 'DELETE',
      path: REPOSITORY,
      access: 'admin',
      changesEveryTag: true,
      async handle(ctx) {
        await repositories.remove(repositoryOf(ctx), actorOf(ctx))
        ctx.status = 204
      },
    },
  ]
}

function readSettings(ctx: RouteContext) {
  return readFields(ctx, (fields) => {
    const visibility = parseVisibility(fields.optionalText('visibility'))
    const immutableTags = fields.optionalTexts('immutableTags')?.map(parseTagGlob)
    const provenance = parseProvenance(fields.optionalText('provenance'))
    return {
      ...(visibility === undefined ? {} : { visibility }),
      ...(immutableTags === undefined ? {} : { immutableTags }),
      ...(provenance === undefined ? {} : { provenance }),
    }
  })
}

function parseProvenance(text: string | undefined): RepositorySettings['provenance'] | undefined {
  if (text === undefined || text === 'optional' || text === 'required') return text
  throw badRequest('provenance must be optional or required')
}

function parseVisibility(text: string | undefined): RepositorySettings['visibility'] | undefined {
  if (text === undefined || text === 'public' || text === 'private') return text
  throw badRequest('visibility must be public or private')
}
