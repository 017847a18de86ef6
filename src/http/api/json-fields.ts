import { badRequest, type RegistryError } from '../../oci/errors.ts'
import type { RouteContext } from '../route.ts'

const BODY_BYTES_MAX = 64 * 1024

/** The fields of a JSON body, each asked for by name and kind; what nobody asked for is refused. */
export class JsonFields {
  readonly #values: Readonly<Record<string, unknown>>
  readonly #asked = new Set<string>()
  /** What stands before their names in messages. */
  readonly #path: string

  private constructor(values: Readonly<Record<string, unknown>>, path = '') {
    this.#values = values
    this.#path = path
  }

  /** Reads the request's body. Throws REQUEST_INVALID, PAYLOAD_TOO_LARGE. */
  static async read(ctx: RouteContext): Promise<JsonFields> {
    if (!ctx.is('application/json')) {
      throw badRequest('send JSON: Content-Type application/json')
    }
    const text = (await ctx.state.body.read(BODY_BYTES_MAX)).toString('utf8')
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch (cause) {
      throw badRequest('the body is no JSON', { cause })
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw badRequest('the body must be a JSON object')
    }
    return new JsonFields({ ...value })
  }

  text(name: string): string {
    const value = this.optionalText(name)
    if (value === undefined) throw this.#wrong(name, 'is missing')
    return value
  }

  optionalText(name: string): string | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'string') throw this.#wrong(name, 'must be a string')
    return value
  }

  optionalNumber(name: string): number | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
      throw this.#wrong(name, 'must be a whole number')
    }
    return value
  }

  optionalTexts(name: string): string[] | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
      throw this.#wrong(name, 'must be a list of strings')
    }
    return value
  }

  optionalFlag(name: string): boolean | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'boolean') throw this.#wrong(name, 'must be true or false')
    return value
  }

  /** An object whose values are strings. */
  optionalNamedTexts(name: string): Record<string, string> | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'object' || Array.isArray(value)) {
      throw this.#wrong(name, 'must be an object of strings')
    }
    const entries = Object.entries(value)
    const texts = entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string')
    if (texts.length < entries.length) throw this.#wrong(name, 'must be an object of strings')
    return Object.fromEntries(texts)
  }

  /** The fields of an object; none when it is left out. `done` of them is to be called, too. */
  optionalFields(name: string): JsonFields {
    const value = this.#value(name) ?? {}
    if (typeof value !== 'object' || Array.isArray(value)) {
      throw this.#wrong(name, 'must be an object')
    }
    return new JsonFields({ ...value }, `${this.#path}${name}.`)
  }

  /** Throws REQUEST_INVALID for a field that is null: it can be left out, but not taken back. */
  assertNotNull(...names: readonly string[]): void {
    const name = names.find((one) => this.#value(one) === null)
    if (name !== undefined) throw this.#wrong(name, 'cannot be null: leave it out')
  }

  /** What `read` makes of a field, or null where it is null: that is not the same as left out. */
  orNull<T>(name: string, read: (name: string) => T): T | null {
    return this.#value(name) === null ? null : read(name)
  }

  texts(name: string): string[] {
    const values = this.optionalTexts(name)
    if (values === undefined) throw this.#wrong(name, 'is missing')
    return values
  }

  /** RFC 3339. */
  optionalTime(name: string): Date | undefined {
    const text = this.optionalText(name)
    if (text === undefined) return undefined
    const time = new Date(text)
    if (!/^\d{4}-\d\d-\d\dT/.test(text) || Number.isNaN(time.getTime())) {
      throw this.#wrong(name, 'must be a time such as 2030-01-31T12:00:00Z')
    }
    return time
  }

  /** A field that only the caller can make sense of. */
  raw(name: string): unknown {
    return this.#value(name)
  }

  /** To be called last. Throws REQUEST_INVALID for a field that nobody asked for. */
  done(): void {
    const unknown = Object.keys(this.#values).find((name) => !this.#asked.has(name))
    if (unknown !== undefined) {
      throw badRequest(
        `${this.#path}${unknown.slice(0, 64)} is no field; those that are: ${[...this.#asked].join(', ')}`,
      )
    }
  }

  #wrong(name: string, rule: string): RegistryError {
    return badRequest(`${this.#path}${name} ${rule}`)
  }

  #value(name: string): unknown {
    this.#asked.add(name)
    return Object.hasOwn(this.#values, name) ? this.#values[name] : undefined
  }
}
