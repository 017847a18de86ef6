import type { Blobs } from '../../registry/blobs.ts'
import { type Builds, TEXT_ROLES, type TextRole } from '../../registry/builds/builds.ts'
import type { Images } from '../../registry/images/images.ts'
import { type Route, type RouteContext, viewOf } from '../route.ts'
import { sendBlob } from '../send-blob.ts'
import { buildOf } from './builds.ts'
import { readImageReference, SELECTOR, selectorOf } from './kernel-query.ts'

type FindText = (ctx: RouteContext, role: TextRole) => ReturnType<Blobs['find']>

/** Serves the files of builds and images that people read, as text without effect: console, script and README. */
export function textRoutes(builds: Builds, images: Images, blobs: Blobs): Route[] {
  const textRow = (path: string, find: FindText, more: Pick<Route, 'query'>) => (role: TextRole) =>
    ({
      method: 'GET',
      path: `${path}/${role}`,
      access: 'pull',
      ...more,
      reads: 'rows',
      async handle(ctx) {
        await sendBlob(ctx, await find(ctx, role), { redirect: false, isText: true })
      },
    }) satisfies Route
  const ofBuild: FindText = (ctx, role) => builds.findText(viewOf(ctx), buildOf(ctx), role)
  const ofImage: FindText = async (ctx, role) => {
    const view = viewOf(ctx)
    const reference = await readImageReference(ctx, images)
    return blobs.find(view, await images.findLayer(view, reference, selectorOf(ctx), role))
  }
  return [
    ...TEXT_ROLES.map(textRow('/api/v1/repositories/*repository/builds/:build', ofBuild, {})),
    ...TEXT_ROLES.map(
      textRow('/api/v1/repositories/*repository/images/:reference', ofImage, { query: SELECTOR }),
    ),
  ]
}
