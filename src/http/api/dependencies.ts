import { Buffer } from 'node:buffer'
import { invalidQuery } from '../../oci/errors.ts'
import type { Images } from '../../registry/images/images.ts'
import { isOpamName } from '../../unikernel/opam/package.ts'
import type { AskQuestion } from '../question-budget.ts'
import { queryOnce, type Route, type RouteContext, viewOf } from '../route.ts'
import { readImageReference, SELECTOR, selectorOf } from './kernel-query.ts'

/** Serves the dependencies between the packages of an image, and the paths to one of them. */
export function dependencyRoutes(images: Images, ask: AskQuestion): Route[] {
  return [
    {
      method: 'GET',
      path: '/api/v1/repositories/*repository/images/:reference/dependencies',
      access: 'pull',
      query: { ...SELECTOR, package: 'once' },
      reads: 'question',
      async handle(ctx) {
        const name = packageOf(ctx)
        const db = ask(ctx)
        const reference = await readImageReference(ctx, images, db)
        const details = await images.details(db, viewOf(ctx), reference, selectorOf(ctx))
        const json =
          name === undefined
            ? await images.dependencies(db, details)
            : await images.dependencyPaths(db, details, name)
        ctx.body = Buffer.from(json.buffer, json.byteOffset, json.length)
        ctx.type = 'json'
      },
    },
  ]
}

/** Reads the name of a package of opam from the query. Throws QUERY_INVALID. */
function packageOf(ctx: RouteContext): string | undefined {
  const name = queryOnce(ctx, 'package') || undefined
  if (name === undefined || isOpamName(name)) return name
  throw invalidQuery('package must be the name of a package of opam, such as mirage-runtime')
}
