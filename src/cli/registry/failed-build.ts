import { STATUS } from '../errors.ts'
import { printResult, visible } from '../printing.ts'
import { readFailedBuild } from './local-image.ts'
import { findLogin, type LoginOptions, type NamedImage } from './login-options.ts'
import type { OrbFile } from './orb-folder.ts'
import { sendImage } from './send-image.ts'

export type FailedBuildReport = {
  /** Undefined when no folder was given. */
  readonly folder: string | undefined
  readonly files: readonly OrbFile[]
  readonly named: NamedImage
  /** The description of the build. */
  readonly annotations?: Readonly<Record<string, string>>
  /** RFC 3339; undefined: the time of its sources. */
  readonly created?: string | undefined
  readonly dryRun: boolean
  readonly json: boolean
}

/** Reports a failed build, and prints its id. Returns the exit status 1, because there is no image. */
export async function reportFailedBuild(
  report: FailedBuildReport,
  options: LoginOptions,
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const { folder, files, named, annotations = {}, created, dryRun, json } = report
  const failed = await readFailedBuild({ files, annotations, created })
  const send = async () => {
    const login = await findLogin(named, options, environment)
    return (await sendImage(failed, named, [], login, environment)).build
  }
  const build = dryRun ? undefined : await send()
  if (folder !== undefined) {
    process.stderr.write(
      `rookery: ${visible(folder)} has no kernel: its build failed, and ${dryRun ? 'would be' : 'is'} reported as a failed build\n`,
    )
  }
  const { digest, bytes } = failed
  const manifest = dryRun ? { manifest: JSON.parse(bytes.toString()) } : {}
  printResult(json, { digest, build: build ?? null, ...manifest }, [
    `digest     ${digest}`,
    ...(build === undefined ? [] : [`build      ${visible(build)}`]),
    ...(dryRun ? [`manifest   ${bytes.toString()}`] : []),
  ])
  return STATUS.found
}
