import type { Digest } from '../../oci/digest.ts'
import { notFound } from '../../oci/errors.ts'
import type { Blobs } from '../../registry/blobs.ts'
import type { Builds } from '../../registry/builds/builds.ts'
import { findExec } from '../../registry/builds/exec-downloads.ts'
import { param, type Route, type RouteContext } from '../route.ts'
import { sendBlob } from '../send-blob.ts'
import { sendBytes } from '../send-bytes.ts'
import { type BuilderWeb, buildIdOf, jobView, pathOfBuild, redirectTo } from './jobs.ts'
import { buildJson } from './json.ts'

const BUILD = '/job/:job/build/:build'
const TEXT_FILE =
  /^(?:opam-switch|build-environment|system-packages|[^/]*\.(?:build-hashes|md|txt))$/

/** Describes a build, and serves its files, texts and exec. */
export function buildRoutes(
  { jobs, jobBuilds }: BuilderWeb,
  blobs: Blobs,
  builds: Builds,
): Route[] {
  const row = (path: string, handle: (ctx: RouteContext) => Promise<void>): Route => ({
    method: 'GET',
    path: `${BUILD}${path}`,
    access: 'publicRead',
    reads: 'rows',
    handle,
  })
  const filesOf = async (ctx: RouteContext) => {
    const view = await jobView(ctx, jobs)
    return { view, ...(await jobBuilds.files(view, buildIdOf(ctx))) }
  }
  const text = (role: 'console' | 'script') =>
    row(`/${role}`, async (ctx) => {
      const blob = await builds.findText(await jobView(ctx, jobs), buildIdOf(ctx), role)
      await sendBlob(ctx, blob, { redirect: false, isText: true })
    })
  return [
    row('', async (ctx) => {
      const view = await jobView(ctx, jobs)
      const { build, image } = await jobBuilds.find(view, buildIdOf(ctx))
      ctx.body = buildJson(param(ctx, 'job'), build, image)
    }),
    row('/f/*path', async (ctx) => {
      const { view, files } = await filesOf(ctx)
      const path = param(ctx, 'path')
      const file = files.find((one) => one.path === path)
      if (file === undefined) throw notFound('the build has no file at this path')
      const blob = await blobs.find(view, file.digest)
      const isText = TEXT_FILE.test(path)
      await sendBlob(ctx, blob, { redirect: false, isText, etag: etagOf(file.digest) })
    }),
    row('/main-binary', async (ctx) => {
      const { build, main } = await filesOf(ctx)
      if (main === undefined) throw notFound(`build ${build.id} has no main binary`)
      const path = main.path.split('/').map(encodeURIComponent).join('/')
      redirectTo(ctx, `${pathOfBuild(param(ctx, 'job'), build.id)}/f/${path}`)
    }),
    text('console'),
    text('script'),
    row('/exec', async (ctx) => {
      const { view, ...files } = await filesOf(ctx)
      const exec = await findExec(blobs, view, files)
      ctx.set({ 'Content-Type': 'application/octet-stream', 'Content-Disposition': 'attachment' })
      ctx.status = 200
      await sendBytes(ctx, exec.length, exec.bytes())
    }),
  ]
}

/** The entity tag of a file at builder-web: its hash in Base64, without quotes. */
function etagOf(digest: Digest): string {
  return Buffer.from(digest.slice(digest.indexOf(':') + 1), 'hex').toString('base64')
}
