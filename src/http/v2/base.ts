import type { Route } from '../route.ts'

/** Distribution spec, "Determining Support", and the extensions spec's list of extensions. */
export function baseRoutes(): Route[] {
  const discover = '_oci/ext/discover'
  return [
    // Some clients leave the slash out.
    ...['/v2/', '/v2'].map(
      (path): Route => ({
        spec: ['end-1'],
        method: 'GET',
        path,
        access: 'pull',
        handle(ctx) {
          ctx.body = {}
        },
      }),
    ),
    ...[`/v2/${discover}`, `/v2/*repository/${discover}`].map(
      (path): Route => ({
        method: 'GET',
        path,
        access: 'pull',
        handle(ctx) {
          ctx.body = { extensions: [] }
        },
      }),
    ),
  ]
}
