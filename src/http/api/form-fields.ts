import { badRequest } from '../../oci/errors.ts'
import type { RouteContext } from '../route.ts'
import { JsonFields, readFields } from './json-fields.ts'

const FORM_BYTES_MAX = 64 * 1024
const FORM = 'application/x-www-form-urlencoded'

/**
 * Reads the fields of a JSON body with `readFields`, or those of a form, which programs without a JSON library send. Throws
 * REQUEST_INVALID and PAYLOAD_TOO_LARGE.
 */
export async function readFormOrJson<T>(
  ctx: RouteContext,
  read: (fields: JsonFields) => T,
): Promise<T> {
  return ctx.is(FORM) ? readForm(ctx, read) : readFields(ctx, read)
}

/**
 * Reads the fields of a form. Each is a text that is given once. Throws REQUEST_INVALID, also for a body that is no form, and
 * PAYLOAD_TOO_LARGE.
 */
export async function readForm<T>(ctx: RouteContext, read: (fields: JsonFields) => T): Promise<T> {
  if (!ctx.is(FORM)) throw badRequest(`send a form: Content-Type ${FORM}`)
  const body = (await ctx.state.body.read(FORM_BYTES_MAX)).toString('utf8')
  const values: Record<string, string> = {}
  for (const [name, value] of new URLSearchParams(body)) {
    if (Object.hasOwn(values, name)) throw badRequest(`${name.slice(0, 64)} is given twice`)
    Object.defineProperty(values, name, { value, enumerable: true })
  }
  return JsonFields.readAll(values, '', read)
}
