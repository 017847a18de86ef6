import { hotRoute, type Route } from '../route.ts'

/** The routes of "Determining Support" in the distribution spec, and the list of extensions. */
export function baseRoutes(): Route[] {
  const discover = '_oci/ext/discover'
  return [
    // Some clients omit the slash.
    ...['/v2/', '/v2'].map((path) =>
      hotRoute({
        spec: ['end-1'],
        method: 'GET',
        path,
        access: 'pull',
        query: 'any',
        reads: 'nothing',
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
        query: 'any',
        reads: 'nothing',
        handle(ctx) {
          ctx.body = { extensions: [] }
        },
      }),
    ),
  ]
}
