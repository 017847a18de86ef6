import { badRequest, type RegistryError } from '../../oci/errors.ts'
import { findHiddenProblem } from '../../oci/hidden-characters.ts'
import type { RouteContext } from '../route.ts'

const BODY_BYTES_MAX = 64 * 1024

/**
 * Reads the fields of the request's JSON body with `read`. Throws REQUEST_INVALID for a body that is
 * not a JSON object, and for a field that `read` did not ask for. Throws PAYLOAD_TOO_LARGE.
 */
export async function readFields<T>(
  ctx: RouteContext,
  read: (fields: JsonFields) => T,
): Promise<T> {
  if (!ctx.is('application/json')) throw badRequest('send JSON: Content-Type application/json')
  const text = (await ctx.state.body.read(BODY_BYTES_MAX)).toString('utf8')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw badRequest('the body is not valid JSON', { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw badRequest('the body must be a JSON object')
  }
  return JsonFields.readAll({ ...value }, '', read)
}

/** Does the same as `readFields` for a request that may have no body: undefined then. */
export async function readOptionalFields<T>(
  ctx: RouteContext,
  read: (fields: JsonFields) => T,
): Promise<T | undefined> {
  return ctx.state.body.present ? readFields(ctx, read) : undefined
}

/** The fields of a JSON object, read by name and type. Each method throws REQUEST_INVALID. */
export class JsonFields {
  readonly #values: Readonly<Record<string, unknown>>
  readonly #read = new Set<string>()
  /** Precedes the names of fields in messages. */
  readonly #path: string

  private constructor(values: Readonly<Record<string, unknown>>, path: string) {
    this.#values = values
    this.#path = path
  }

  /** Reads an object with `read`. Throws REQUEST_INVALID for a field that `read` did not ask for. */
  static readAll<T>(
    values: Readonly<Record<string, unknown>>,
    path: string,
    read: (fields: JsonFields) => T,
  ): T {
    const fields = new JsonFields(values, path)
    const result = read(fields)
    fields.#assertAllRead()
    return result
  }

  text(name: string): string {
    const value = this.optionalText(name)
    if (value === undefined) throw this.#invalid(name, 'is missing')
    return value
  }

  optionalText(name: string): string | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'string') throw this.#invalid(name, 'must be a string')
    return this.#readable(name, value)
  }

  optionalNumber(name: string): number | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
      throw this.#invalid(name, 'must be a whole number')
    }
    return value
  }

  texts(name: string): string[] {
    const values = this.optionalTexts(name)
    if (values === undefined) throw this.#invalid(name, 'is missing')
    return values
  }

  optionalTexts(name: string): string[] | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
      throw this.#invalid(name, 'must be a list of strings')
    }
    return value.map((text) => this.#readable(name, text))
  }

  optionalFlag(name: string): boolean | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'boolean') throw this.#invalid(name, 'must be true or false')
    return value
  }

  /** An object whose values are strings. */
  optionalNamedTexts(name: string): Record<string, string> | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'object' || Array.isArray(value)) {
      throw this.#invalid(name, 'must be an object of strings')
    }
    const entries = Object.entries(value)
    const texts = entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string')
    if (texts.length < entries.length) throw this.#invalid(name, 'must be an object of strings')
    for (const entry of texts) for (const text of entry) this.#readable(name, text)
    return Object.fromEntries(texts)
  }

  /** RFC 3339. */
  optionalTime(name: string): Date | undefined {
    const text = this.optionalText(name)
    if (text === undefined) return undefined
    const time = new Date(text)
    if (!/^\d{4}-\d\d-\d\dT/.test(text) || Number.isNaN(time.getTime())) {
      throw this.#invalid(name, 'must be a time such as 2030-01-31T12:00:00Z')
    }
    return time
  }

  /** The fields of an object, as `readFields` reads them; a missing object has no fields. */
  optionalFields<T>(name: string, read: (fields: JsonFields) => T): T {
    const value = this.#value(name) ?? {}
    if (typeof value !== 'object' || Array.isArray(value)) {
      throw this.#invalid(name, 'must be an object')
    }
    return JsonFields.readAll({ ...value }, `${this.#path}${name}.`, read)
  }

  /** The result of `read`, or null for a field that is null, which differs from a missing field. */
  orNull<T>(name: string, read: (name: string) => T): T | null {
    return this.#value(name) === null ? null : read(name)
  }

  /** Throws REQUEST_INVALID for a field that is null: a request may leave it out, but not reset it. */
  assertNotNull(...names: readonly string[]): void {
    const name = names.find((one) => this.#value(one) === null)
    if (name !== undefined) throw this.#invalid(name, 'cannot be null: leave it out')
  }

  /** A field that the caller checks. */
  raw(name: string): unknown {
    return this.#value(name)
  }

  #assertAllRead(): void {
    const unknown = Object.keys(this.#values).find((name) => !this.#read.has(name))
    if (unknown === undefined) return
    const fields = [...this.#read].join(', ')
    throw badRequest(
      `${this.#path}${unknown.slice(0, 64)} is not a field; the fields are ${fields}`,
    )
  }

  /** Others read the texts that a client stores. */
  #readable(name: string, text: string): string {
    const problem = findHiddenProblem(text)
    if (problem !== undefined) throw this.#invalid(name, problem)
    return text
  }

  #invalid(name: string, rule: string): RegistryError {
    return badRequest(`${this.#path}${name} ${rule}`)
  }

  #value(name: string): unknown {
    this.#read.add(name)
    return Object.hasOwn(this.#values, name) ? this.#values[name] : undefined
  }
}
