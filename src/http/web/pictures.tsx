import { Buffer } from 'node:buffer'
import { invalidQuery } from '../../oci/errors.ts'
import type { Picture } from '../../registry/images/pictures.ts'
import { isOpamName } from '../../unikernel/opam/package.ts'
import { GraphPage, type GraphView, type PictureState } from '../../web/graph.tsx'
import { apiPath } from '../../web/paths.ts'
import { type DrawnSizes, SizePage } from '../../web/treemap.tsx'
import { readImageReference, selectorOf } from '../api/kernel-query.ts'
import { queryOnce, type Route, type RouteContext, repositoryOf, viewOf } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

/** Seconds after which a browser loads a page again whose picture was being made. */
const RELOAD_SECONDS = 2

/** The pages with pictures of an image: its dependencies, and the sizes of its parts. */
export function picturePages({
  images,
  pictures,
  ask,
}: Pick<PageDeps, 'images' | 'pictures' | 'ask'>): Route[] {
  const detailsOf = async (ctx: RouteContext) => {
    const db = ask(ctx)
    const reference = await readImageReference(ctx, images, db)
    return { db, details: await images.details(db, viewOf(ctx), reference, selectorOf(ctx)) }
  }
  return [
    {
      method: 'GET',
      path: '/r/*repository/-/images/:reference/graph',
      ...PAGE_ROUTE,
      access: 'pull',
      reads: 'question',
      async handle(ctx) {
        const name = queryOnce(ctx, 'package')?.trim() || undefined
        if (name !== undefined && !isOpamName(name)) {
          throw invalidQuery('package must be the name of a package of opam, such as lwt')
        }
        const repository = repositoryOf(ctx)
        const { db, details } = await detailsOf(ctx)
        const api = apiPath(repository, `images/${details.digest}/dependencies`)
        const send = (title: string, json: string, content: GraphView['content']) =>
          sendPage(ctx, {
            ...{ title: `${title} · ${repository}`, json },
            content: <GraphPage view={{ repository, digest: details.digest, content }} />,
          })
        if (name === undefined) {
          const dependencies = parsed(await images.dependencies(db, details))
          const picture = await pictures.find(db, details, 'graph')
          reloadSoon(ctx, picture)
          send('Dependencies', api, {
            ...{ kind: 'all', dependencies },
            picture: stateOf(picture, ({ picture: json }) => JSON.parse(json)),
          })
        } else {
          const json = await images.dependencyPaths(db, details, name, 'drawn-dependency-paths')
          const query = new URLSearchParams({ package: name })
          send(`Why ${name}`, `${api}?${query}`, { kind: 'paths', paths: parsed(json) })
        }
      },
    },
    {
      method: 'GET',
      path: '/r/*repository/-/images/:reference/size',
      ...PAGE_ROUTE,
      access: 'pull',
      reads: 'question',
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        const { db, details } = await detailsOf(ctx)
        const { digest } = details
        const found = await pictures.find(db, details, 'sizes')
        reloadSoon(ctx, found)
        const picture = stateOf(
          found,
          ({ of, facts, picture: json }): DrawnSizes => ({
            ...{ treemap: JSON.parse(json), sizes: JSON.parse(facts ?? '{}'), file: of },
          }),
        )
        sendPage(ctx, {
          title: `Sizes of the parts · ${repository}`,
          json: apiPath(repository, `images/${digest}/sizes`),
          content: <SizePage repository={repository} digest={digest} picture={picture} />,
        })
      },
    },
  ]
}

/** A browser without script obeys it as well. */
function reloadSoon(ctx: RouteContext, { state }: Picture): void {
  if (state === 'being made') ctx.set('Refresh', `${RELOAD_SECONDS}`)
}

function stateOf<T>(
  picture: Picture,
  read: (made: Extract<Picture, { state: 'made' }>) => T,
): PictureState<T> {
  if (picture.state === 'made') return { state: 'made', picture: read(picture) }
  if (picture.state === 'refused') return { state: 'refused', problem: picture.problem }
  return { state: picture.state }
}

function parsed(json: Uint8Array) {
  return JSON.parse(Buffer.from(json.buffer, json.byteOffset, json.length).toString())
}
