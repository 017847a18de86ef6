import { ownPatterns, pullablePatterns } from '../../auth/access.ts'
import { parseDigest } from '../../oci/digest.ts'
import { listReproductions } from '../../registry/images/reproductions.ts'
import { InputsPage } from '../../web/inputs.tsx'
import { KernelPage } from '../../web/kernel.tsx'
import { inputsPath, kernelPath } from '../../web/paths.ts'
import { shortDigest } from '../../web/texts.ts'
import { parseInputId } from '../api/build-query.ts'
import { buildJson } from '../api/builds.ts'
import { HIT_FILTER, hitFilterOf } from '../api/hit-query.ts'
import { imageSummary } from '../api/image-json.ts'
import { param, type Route } from '../route.ts'
import type { PageDeps } from './deps.ts'
import { nextPath } from './next-path.ts'
import { listRunsForPage } from './running.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const IMAGES_A_PAGE = 15

/** The pages of a kernel, and of the inputs of builds. */
export function kernelPages({
  images,
  builds,
  ask,
  pageCursors,
}: Pick<PageDeps, 'images' | 'builds' | 'ask' | 'pageCursors'>): Route[] {
  return [
    {
      method: 'GET',
      path: '/kernels/:digest',
      ...PAGE_ROUTE,
      access: 'publicRead',
      reads: 'question',
      async handle(ctx) {
        const { caller } = ctx.state
        const kernel = parseDigest(param(ctx, 'digest'))
        const [filter, visible] = [hitFilterOf(ctx), pullablePatterns(caller)]
        const before = pageCursors.read(ctx)
        const [page, runs] = await Promise.all([
          images.listByKernel(ask(ctx), kernel, filter, visible, before, IMAGES_A_PAGE),
          before === undefined
            ? listRunsForPage(ctx, ask, {
                kernel,
                json: `/api/v1/runs?${new URLSearchParams({ kernel })}`,
              })
            : undefined,
        ])
        const last = page.next === undefined ? undefined : pageCursors.format(page.next)
        const next = nextPath(ctx, last, Object.keys(HIT_FILTER))
        sendPage(ctx, {
          title: `Kernel ${shortDigest(kernel)}`,
          json: `/api/v1${kernelPath(kernel)}`,
          next,
          content: (
            <KernelPage
              kernel={kernel}
              images={page.images.map((image) => imageSummary(image, caller))}
              isNewest={before === undefined}
              next={next}
              runs={runs}
            />
          ),
        })
      },
    },
    {
      method: 'GET',
      path: '/inputs/:inputId',
      ...PAGE_ROUTE,
      access: 'publicRead',
      reads: 'question',
      async handle(ctx) {
        const { caller } = ctx.state
        const inputId = parseInputId(param(ctx, 'inputId'))
        const [visible, own] = [pullablePatterns(caller), ownPatterns(caller)]
        const filter = { tagged: undefined, tag: undefined }
        const found = await listReproductions(ask(ctx), builds, inputId, filter, visible, own)
        const json = `/api/v1${inputsPath(inputId)}`
        sendPage(ctx, {
          title: `Inputs ${shortDigest(inputId)}`,
          json,
          content: (
            <InputsPage
              {...found}
              inputId={inputId}
              outputs={found.outputs.map((output) => ({
                ...output,
                images: output.images.map((image) => imageSummary(image, caller)),
              }))}
              otherInputs={found.otherInputs.map((image) => imageSummary(image, caller))}
              builds={found.builds.map((build) => buildJson(build, caller))}
              json={json}
            />
          ),
        })
      },
    },
  ]
}
