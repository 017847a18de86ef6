import { maySeeActors } from '../../auth/access.ts'
import { plainText } from '../../deployments/console-text.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Blob } from '../../registry/blobs.ts'
import type { ComparedBuild } from '../../registry/builds/builds.ts'
import { BuildPage } from '../../web/build.tsx'
import type { BuildItem } from '../../web/build-item.ts'
import { BuildsPage } from '../../web/builds.tsx'
import { apiPath } from '../../web/paths.ts'
import { buildOf } from '../api/builds.ts'
import { type Route, type RouteContext, repositoryOf, viewOf } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { nextPath } from './next-path.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const BUILDS_A_PAGE = 30
/** Bytes at the end of a console that the page of a build shows, and its lines. */
const CONSOLE_BYTES_MAX = 6 * 1024
const CONSOLE_LINES_MAX = 40

/** The pages of the builds of a repository. */
export function buildPages({
  blobs,
  builds,
  ask,
  pageCursors,
}: Pick<PageDeps, 'blobs' | 'builds' | 'ask' | 'pageCursors'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/r/*repository/-/builds',
      ...PAGE_ROUTE,
      access: 'pull',
      reads: 'question',
      async handle(ctx) {
        const repository = repositoryOf(ctx)
        const page = await builds.compared(
          ask(ctx),
          viewOf(ctx),
          pageCursors.read(ctx),
          BUILDS_A_PAGE,
        )
        const next =
          page.next === undefined ? undefined : nextPath(ctx, pageCursors.format(page.next))
        sendPage(ctx, {
          title: `Builds of ${repository}`,
          json: apiPath(repository, 'builds'),
          next,
          content: (
            <BuildsPage
              repository={repository}
              builds={page.builds.map((build) => itemOf(ctx, repository, build))}
              next={next}
            />
          ),
        })
      },
    },
    {
      method: 'GET',
      path: '/r/*repository/-/builds/:build',
      ...PAGE_ROUTE,
      access: 'pull',
      reads: 'question',
      async handle(ctx) {
        const [repository, view, id] = [repositoryOf(ctx), viewOf(ctx), buildOf(ctx)]
        const found = await builds.page(ask(ctx), view, id)
        const { others, texts } = found
        const digest = texts.find(({ role }) => role === 'console')?.digest
        const showsActor = maySeeActors(ctx.state.caller, repository)
        sendPage(ctx, {
          title: `${repository}, build ${id}`,
          json: apiPath(repository, `builds/${id}`),
          content: (
            <BuildPage
              repository={repository}
              build={itemOf(ctx, repository, found)}
              texts={texts.map(({ role }) => role)}
              console={
                digest === undefined ? undefined : await readEnd(await blobs.find(view, digest))
              }
              others={others.map((other) => ({
                ...other,
                builder: showsActor ? other.builder : null,
              }))}
            />
          ),
        })
      },
    },
  ]
}

function itemOf(ctx: RouteContext, repository: Repository, build: ComparedBuild): BuildItem {
  return { ...build, builder: maySeeActors(ctx.state.caller, repository) ? build.builder : null }
}

/** Reads the last lines of a console, without the control characters that programs write for terminals. */
async function readEnd(blob: Blob): Promise<{ readonly text: string; readonly isWhole: boolean }> {
  if (blob.size === 0) return { text: '', isWhole: true }
  const start = Math.max(0, blob.size - CONSOLE_BYTES_MAX)
  const chunks: Buffer[] = []
  // The store reuses the memory of a chunk.
  for await (const chunk of blob.read({ start, end: blob.size - 1 }))
    chunks.push(Buffer.from(chunk))
  const lines = new TextDecoder().decode(Buffer.concat(chunks)).trimEnd().split('\n')
  // The first line may begin before the bytes that were read.
  const whole = start === 0 ? lines : lines.slice(1)
  const shown = whole.slice(-CONSOLE_LINES_MAX)
  return {
    text: plainText(shown.join('\n')),
    isWhole: start === 0 && shown.length === whole.length,
  }
}
