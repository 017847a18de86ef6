import { invalidManifest } from '../oci/descriptor.ts'
import type { Manifest } from '../oci/manifest.ts'
import { FAILED_BUILD, findRole, INPUTS, type Input, OTHER_BUILD } from './format.ts'
import { type BuildEnvironment, describeHost } from './host/build-environment.ts'
import { inputIdOf } from './image.ts'
import { isTime } from './time.ts'

/** Annotations of an image or of the report of a failed build, in which its builder describes the build. */
export const BUILD_CLAIMS = {
  result: 'vnd.unikernel.build.result',
  exitCode: 'vnd.unikernel.build.exit-code',
  signal: 'vnd.unikernel.build.signal',
  message: 'vnd.unikernel.build.message',
  platform: 'vnd.unikernel.build.platform',
  started: 'vnd.unikernel.build.started',
  finished: 'vnd.unikernel.build.finished',
} as const
type Claim = keyof typeof BUILD_CLAIMS

/** `failed`: it ended with another exit code than 0. `error`: the builder could not run it to its end. */
export const FAILED_RESULTS = ['failed', 'signalled', 'error'] as const
export type FailedResult = (typeof FAILED_RESULTS)[number]

/** How a build ended, where and when, as its builder says. Undefined where he does not say it. */
export type BuildClaims = {
  readonly result: 'succeeded' | FailedResult
  readonly exitCode: number | undefined
  readonly signal: number | undefined
  readonly message: string | undefined
  /** Such as `debian-12`. */
  readonly platform: string | undefined
  readonly startedAt: Date | undefined
  readonly finishedAt: Date | undefined
}

const MESSAGE_CHARACTERS_MAX = 1000
const PLATFORM = /^[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,62}[A-Za-z0-9])?$/
const EXIT_CODE_MAX = 2 ** 31 - 1
const SIGNAL_MAX = 255

/** True for the report of a failed build. */
export function reportsFailure({ artifactType }: Pick<Manifest, 'artifactType'>): boolean {
  return artifactType === FAILED_BUILD
}

/** True for a build that made something else than a unikernel: its first layer without a role is its main binary. */
export function reportsOther({ artifactType }: Pick<Manifest, 'artifactType'>): boolean {
  return artifactType === OTHER_BUILD
}

/** True for a word that may name a platform, such as `debian-12`. */
export function isPlatform(text: string): boolean {
  return PLATFORM.test(text)
}

/**
 * Reads the claims of an image or of the report of a failed build. Throws MANIFEST_INVALID for a malformed claim, and
 * for one that contradicts the kind of the manifest.
 */
export function parseBuildClaims(manifest: Manifest): BuildClaims {
  const claims = new Claims(manifest.annotations ?? {})
  const isFailure = reportsFailure(manifest)
  const result = claims.result(isFailure)
  const exitCode = claims.number('exitCode', EXIT_CODE_MAX)
  const signal = claims.number('signal', SIGNAL_MAX)
  const message = claims.text('message', (text) => text.length <= MESSAGE_CHARACTERS_MAX)
  claims.assertOnly('exitCode', exitCode, result === 'failed')
  claims.assertOnly('signal', signal, result === 'signalled')
  claims.assertOnly('message', message, result === 'error')
  if (exitCode === 0) throw claims.invalid('exitCode', 'of a failed build must not be 0')
  const startedAt = claims.time('started')
  const finishedAt = claims.time('finished')
  if (startedAt !== undefined && finishedAt !== undefined && finishedAt < startedAt) {
    throw claims.invalid('finished', 'is before it started')
  }
  return {
    ...{ result, exitCode, signal, message, startedAt, finishedAt },
    platform: claims.text('platform', isPlatform),
  }
}

class Claims {
  readonly #annotations: Readonly<Record<string, string>>

  constructor(annotations: Readonly<Record<string, string>>) {
    this.#annotations = annotations
  }

  invalid(claim: Claim, problem: string): Error {
    return invalidManifest(`annotation ${BUILD_CLAIMS[claim]}`, problem)
  }

  result(isFailure: boolean): BuildClaims['result'] {
    const text = this.#annotations[BUILD_CLAIMS.result]
    if (!isFailure) {
      if (text === undefined || text === 'succeeded') return 'succeeded'
      throw this.invalid(
        'result',
        `of an image must be succeeded; a failed build is ${FAILED_BUILD}`,
      )
    }
    if (text === undefined) return 'failed'
    const result = FAILED_RESULTS.find((one) => one === text)
    if (result === undefined) {
      throw this.invalid('result', `must be one of ${FAILED_RESULTS.join(', ')}`)
    }
    return result
  }

  number(claim: Claim, max: number): number | undefined {
    const text = this.#annotations[BUILD_CLAIMS[claim]]
    if (text === undefined) return undefined
    if (!/^\d{1,10}$/.test(text) || Number(text) > max) {
      throw this.invalid(claim, `must be a number from 0 to ${max}`)
    }
    return Number(text)
  }

  text(claim: Claim, isValid: (text: string) => boolean): string | undefined {
    const text = this.#annotations[BUILD_CLAIMS[claim]]
    if (text === undefined) return undefined
    if (text === '' || text.includes('\0') || !isValid(text)) {
      throw this.invalid(claim, claim === 'platform' ? PLATFORM_RULE : MESSAGE_RULE)
    }
    return text
  }

  time(claim: Claim): Date | undefined {
    const text = this.#annotations[BUILD_CLAIMS[claim]]
    if (text === undefined) return undefined
    if (!isTime(text)) throw this.invalid(claim, 'must be a time such as 2026-05-20T18:07:42Z')
    return new Date(text)
  }

  assertOnly(claim: Claim, value: unknown, isAllowed: boolean): void {
    if (value !== undefined && !isAllowed) {
      throw this.invalid(claim, 'does not belong to this result')
    }
  }
}

const PLATFORM_RULE =
  'must be a word such as debian-12: letters, digits, . _ + and -, at most 64 characters'
const MESSAGE_RULE = `must have 1 to ${MESSAGE_CHARACTERS_MAX} characters`

/**
 * Returns the platform of a build that names none: the distribution and its version of the build environment, or else
 * the architecture of the kernel.
 */
export function platformOf(
  environment: BuildEnvironment | undefined,
  architecture: string | undefined,
): string | undefined {
  const { distribution, version } = environment === undefined ? {} : describeHost(environment)
  const named = distribution && version ? `${distribution}-${version}` : distribution
  return [named, architecture].find((text) => text !== undefined && isPlatform(text))
}

/** Computes the input id of a failed build. Undefined when an input is missing, or has no digest of SHA-256. */
export function inputIdOfReport({ layers }: Manifest): string | undefined {
  const found: Partial<Record<Input, string>> = {}
  for (const { mediaType, title, digest } of layers) {
    const role = findRole(mediaType, title)
    const input = INPUTS.find((one) => one === role)
    if (input !== undefined && digest.startsWith('sha256:')) found[input] ??= digest.slice(7)
  }
  const {
    'opam-switch': opamSwitch,
    'build-environment': environment,
    'system-packages': system,
  } = found
  if (opamSwitch === undefined || environment === undefined || system === undefined)
    return undefined
  return inputIdOf({
    'opam-switch': opamSwitch,
    'build-environment': environment,
    'system-packages': system,
  })
}
