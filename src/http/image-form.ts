import { badRequest, type RegistryError } from '../oci/errors.ts'
import type { IncomingImage, IncomingImagePart } from '../registry/images/builder.ts'
import { BUILD_CLAIMS } from '../unikernel/build-claims.ts'
import { baseName, CLAIMS, ROLES } from '../unikernel/format.ts'
import { findTarget, TARGETS } from '../unikernel/targets.ts'
import { isTime } from '../unikernel/time.ts'
import { parseFileTitle } from './file-title.ts'
import { formParts } from './multipart.ts'
import type { RouteContext } from './route.ts'

// `2026-05-20T18:07:42Z`: to the second, as oras writes it.
const TIME_LENGTH = 20
const FILES = [...ROLES, 'config'] as const

/** The values of an image alone. */
const IMAGE_VALUES: Readonly<Record<string, string>> = { target: CLAIMS.target }

/** The values of a form that describe the build, and the annotations that they become. */
const BUILD_VALUES: Readonly<Record<string, string>> = {
  platform: BUILD_CLAIMS.platform,
  started: BUILD_CLAIMS.started,
  finished: BUILD_CLAIMS.finished,
}
/** The further values of the report of a failed build. */
const FAILURE_VALUES: Readonly<Record<string, string>> = {
  ...BUILD_VALUES,
  result: BUILD_CLAIMS.result,
  'exit-code': BUILD_CLAIMS.exitCode,
  signal: BUILD_CLAIMS.signal,
  message: BUILD_CLAIMS.message,
}

/** The form of an image or of the report of a failed build: files by role, and values that describe the build. */
export class ImageForm {
  readonly #ctx: RouteContext
  readonly #isFailure: boolean
  readonly #values = new Map<string, string>()

  constructor(ctx: RouteContext, kind: 'image' | 'failed build' = 'image') {
    this.#ctx = ctx
    this.#isFailure = kind === 'failed build'
  }

  /** Returns what `ImageBuilder.build` reads. The values are known after the last file. */
  contents(): Pick<IncomingImage, 'parts' | 'created' | 'annotations' | 'isFailure'> {
    return {
      parts: this.#files(),
      created: () => this.#values.get('created'),
      annotations: () => this.#annotations(),
      isFailure: this.#isFailure,
    }
  }

  get #names(): Readonly<Record<string, string>> {
    return this.#isFailure ? FAILURE_VALUES : { ...BUILD_VALUES, ...IMAGE_VALUES }
  }

  #annotations(): Record<string, string> {
    return Object.fromEntries(
      Object.entries(this.#names).flatMap(([name, annotation]) => {
        const value = this.#values.get(name)
        return value === undefined ? [] : [[annotation, value]]
      }),
    )
  }

  /** Streams the files in the order of the form. Throws REQUEST_INVALID for an unknown part. */
  async *#files(): AsyncGenerator<IncomingImagePart> {
    for await (const part of formParts(this.#ctx)) {
      if (part.kind === 'value') {
        this.#keep(part.name, part.value)
        continue
      }
      const role = FILES.find((one) => one === part.name)
      if (role === undefined) throw this.#unknownPart(part.name)
      const title = parseFileTitle(baseName(part.fileName ?? role))
      yield { role, title, body: { bytes: part.bytes, start: undefined, length: undefined } }
    }
  }

  #keep(name: string, value: string): void {
    if (FILES.some((one) => one === name)) {
      throw badRequest(`${name} must be a file: send it with -F ${name}=@FILE`)
    }
    if (name !== 'created' && !Object.hasOwn(this.#names, name)) throw this.#unknownPart(name)
    if (name === 'created' && (!isTime(value) || value.length !== TIME_LENGTH)) {
      throw badRequest('created must be a time such as 2026-05-20T18:07:42Z')
    }
    if (name === 'target' && findTarget(value) === undefined) {
      throw badRequest(`target must be one of ${TARGETS.join(', ')}`)
    }
    if (this.#values.has(name)) throw badRequest(`${name} is given twice`)
    this.#values.set(name, value)
  }

  #unknownPart(name: string): RegistryError {
    const names = [...FILES, 'created', ...Object.keys(this.#names)].join(', ')
    return badRequest(`part ${JSON.stringify(name.slice(0, 80))} must be one of ${names}`)
  }
}
