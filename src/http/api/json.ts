import { OciError } from '../../oci/errors.ts'
import type { RouteContext } from '../route.ts'

const BODY_BYTES_MAX = 64 * 1024

/** The fields of a JSON body, each asked for by name and kind; what nobody asked for is refused. */
export class Fields {
  readonly #values: Readonly<Record<string, unknown>>
  readonly #asked = new Set<string>()

  private constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values
  }

  /** Reads the request's body. Throws REQUEST_INVALID, PAYLOAD_TOO_LARGE. */
  static async read(ctx: RouteContext): Promise<Fields> {
    if (!ctx.is('application/json')) {
      throw invalid('send JSON: Content-Type application/json')
    }
    const text = (await ctx.state.body.read(BODY_BYTES_MAX)).toString('utf8')
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch (cause) {
      throw invalid('the body is no JSON', cause)
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw invalid('the body must be a JSON object')
    }
    return new Fields({ ...value })
  }

  text(name: string): string {
    const value = this.optionalText(name)
    if (value === undefined) throw invalid(`${name} is missing`)
    return value
  }

  optionalText(name: string): string | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'string') throw invalid(`${name} must be a string`)
    return value
  }

  optionalNumber(name: string): number | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
      throw invalid(`${name} must be a whole number`)
    }
    return value
  }

  optionalTexts(name: string): string[] | undefined {
    const value = this.#value(name)
    if (value === undefined || value === null) return undefined
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
      throw invalid(`${name} must be a list of strings`)
    }
    return value
  }

  /** RFC 3339. */
  optionalTime(name: string): Date | undefined {
    const text = this.optionalText(name)
    if (text === undefined) return undefined
    const time = new Date(text)
    if (!/^\d{4}-\d\d-\d\dT/.test(text) || Number.isNaN(time.getTime())) {
      throw invalid(`${name} must be a time such as 2030-01-31T12:00:00Z`)
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
      throw invalid(
        `${unknown.slice(0, 64)} is no field; those that are: ${[...this.#asked].join(', ')}`,
      )
    }
  }

  #value(name: string): unknown {
    this.#asked.add(name)
    return Object.hasOwn(this.#values, name) ? this.#values[name] : undefined
  }
}

function invalid(message: string, cause?: unknown): OciError {
  return new OciError('REQUEST_INVALID', undefined, { message, cause })
}
