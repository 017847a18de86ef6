import { badRequest } from '../oci/errors.ts'
import type { RouteContext } from './route.ts'

const FORM_BYTES_MAX = 64 * 1024

/** True for the body of an HTML form without files. */
export function isUrlEncoded(ctx: RouteContext): boolean {
  return typeof ctx.is('application/x-www-form-urlencoded') === 'string'
}

/** Reads the fields of a form. Throws REQUEST_INVALID for another type, and PAYLOAD_TOO_LARGE. */
export async function readForm(ctx: RouteContext): Promise<URLSearchParams> {
  if (!isUrlEncoded(ctx)) {
    throw badRequest('send a form: Content-Type application/x-www-form-urlencoded')
  }
  return new URLSearchParams((await ctx.state.body.read(FORM_BYTES_MAX)).toString('utf8'))
}
