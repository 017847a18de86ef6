import { notFound } from '../../oci/errors.ts'
import type { Images } from '../../registry/images/images.ts'
import { withFields } from '../api/image-json.ts'
import type { AskQuestion } from '../question-budget.ts'
import type { Route, RouteContext } from '../route.ts'
import { type BuilderWeb, buildIdOf, ownOf } from './jobs.ts'
import { sideJson } from './json.ts'

const NO_SELECTOR = { target: undefined, abiVersions: undefined, architecture: undefined }
const NO_COMPARISON = '{}'

/** Compares two builds in the JSON of builder-web. */
export function compareRoutes(
  { jobs, jobBuilds }: BuilderWeb,
  images: Images,
  ask: AskQuestion,
): Route[] {
  return [
    {
      method: 'GET',
      path: '/compare/:left/:right',
      access: 'publicRead',
      reads: 'question',
      async handle(ctx) {
        const db = ask(ctx)
        const sideOf = async (name: 'left' | 'right') => {
          const id = buildIdOf(ctx, name)
          const build = await jobBuilds.findAnywhere(db, ownOf(ctx), id)
          if (build === undefined) throw notFound(`there is no build ${id}`)
          const { repository, digest, kernelSize } = build
          const view = { repository, publicOnly: false }
          const reference = { kind: 'digest', digest } as const
          return {
            details: await images.details(db, view, reference, NO_SELECTOR),
            json: sideJson(jobs.nameOf(build), build, kernelSize),
          }
        }
        const [left, right] = [await sideOf('left'), await sideOf('right')]
        const json = await images.compare(db, left.details, right.details, 'builder-web-comparison')
        if (Buffer.from(json).toString() === NO_COMPARISON) {
          throw notFound(
            'a build has no opam-switch, build-environment or system-packages: there is nothing to compare',
          )
        }
        sendJson(ctx, withFields({ left: left.json, right: right.json }, json))
      },
    },
  ]
}

function sendJson(ctx: RouteContext, json: Buffer): void {
  ctx.type = 'application/json'
  ctx.body = json
}
