import { formatReference, type ImageReference } from '../../client/image-reference.ts'
import { parseTag, type Tag } from '../../oci/reference.ts'
import { INPUTS } from '../../unikernel/format.ts'
import type { UnikernelImage } from '../../unikernel/image.ts'
import { findTarget, TARGETS, type Target } from '../../unikernel/targets.ts'
import { isTime } from '../../unikernel/time.ts'
import { listMissingInputs } from '../../unikernel/validation.ts'
import {
  argument,
  choice,
  command,
  describeDefault,
  flag,
  JSON_OPTION,
  moreArguments,
  parsed,
  value,
  withBareValue,
} from '../command.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { printResult, visible } from '../printing.ts'
import { withClientErrors } from './client-errors.ts'
import { GOALS } from './deployment-outcome.ts'
import { WAIT_OPTIONS } from './deployment-wait.ts'
import { reportFailedBuild } from './failed-build.ts'
import { type LocalImage, readLocalImage } from './local-image.ts'
import { findLogin, LOGIN_OPTIONS, parseNamedImage, readReference } from './login-options.ts'
import { findFailedBuild, listOrbFiles, type OrbFile } from './orb-folder.ts'
import { waitForPush } from './push-wait.ts'
import { sendImage } from './send-image.ts'

// As many as the registry takes in one request.
const TAGS_MAX = 64

/** `rookery push`: an orb build or one kernel as an image of any registry. */
export const pushCommand = command({
  arguments: {
    path: argument('DIR|FILE', "orb's output folder, a mirage project, or one kernel"),
    image: argument('HOST/REPOSITORY:TAG', 'tag of the image'),
    tags: moreArguments('TAG', 'more tags of the same image', TAGS_MAX - 1),
  },
  options: {
    kernel: value('FILE', 'kernel to push when the folder has several'),
    target: parsed('NAME', 'target of a kernel without Solo5 notes, such as unix', parseTarget),
    config: value('FILE', 'unikernel config (JSON): name, memory, arguments'),
    console: value('FILE', 'console output of the build, as a layer'),
    script: value('FILE', 'build script, as a layer'),
    created: describeDefault(
      parsed('TIME', 'creation time, such as 2026-05-20T12:00:00Z', parseCreated),
      'SOURCE_DATE_EPOCH of the build',
    ),
    requireProvenance: flag('push nothing when a file of the provenance is missing'),
    wait: withBareValue(choice('STATE', GOALS, 'wait until the hosts run it'), 'healthy'),
    ...WAIT_OPTIONS,
    dryRun: flag('print the manifest and push nothing'),
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes:
    'A folder of orb without a kernel is that of a build that failed. Its inputs are reported as a failed build, no tag is set, and the exit status is 1. With --wait it is 1 when the deployment failed, 3 when the time ran out, and 4 when a newer one replaced it.',
  examples: [
    ['rookery push . registry.example.org/builds/www:live', "in orb's output folder"],
    ['rookery push . registry.example.org/builds/www:live --wait', 'until the hosts are healthy'],
    ['rookery push www.hvt 127.0.0.1:5000/builds/www:live v42', 'one kernel with two tags'],
  ],
  run(values, environment) {
    const { path, dryRun, json } = values
    return withClientErrors(async () => {
      const named = parseNamedImage(await readReference(values.image), values)
      const tags = tagsOf(named.reference, values.tags)
      assertWaits(values)
      const extra = [
        ...extraFiles('console', values.console),
        ...extraFiles('script', values.script),
      ]
      const failed = values.kernel === undefined ? await findFailedBuild(path) : undefined
      if (failed !== undefined) {
        const files = [...failed, ...extra]
        return reportFailedBuild({ folder: path, files, named, dryRun, json }, values, environment)
      }
      const image = await readLocalImage({
        files: [...(await listOrbFiles(path, values.kernel, values.target)), ...extra],
        target: values.target,
        config: values.config,
        created: values.created,
      })
      const unikernel = image.image
      if (unikernel === undefined) throw new CommandError(`${visible(path)} has no kernel`)
      checkProvenance(unikernel, values.requireProvenance)
      const login = dryRun ? undefined : await findLogin(named, values, environment)
      const sent = dryRun ? undefined : await sendImage(image, named, tags, login, environment)
      const build = sent?.build
      const references = tags.map((tag) => formatReference({ ...named.reference, tag }))
      const { digest } = image
      const inputId = unikernel.inputId ?? null
      const manifest = dryRun ? { manifest: JSON.parse(image.bytes.toString()) } : {}
      const result = { digest, references, inputId, build: build ?? null, layers: layersOf(image) }
      printResult(json, { ...result, ...manifest }, [
        `digest     ${digest}`,
        ...references.map((reference) => `reference  ${reference}`),
        `input id   ${inputId ?? 'none'}`,
        ...(build === undefined ? [] : [`build      ${visible(build)}`]),
        ...(dryRun ? manifestLines(image) : []),
      ])
      if (values.wait === undefined || sent === undefined) return STATUS.ok
      const push = { named: { ...named, login }, tags, digest, deployments: sent.deployments }
      return waitForPush(push, values.wait, values, environment)
    })
  },
})

function tagsOf({ tag, digest, digestPrefix }: ImageReference, more: readonly string[]): Tag[] {
  if (tag === undefined || (digest ?? digestPrefix) !== undefined) {
    throw new UsageError(
      'the reference must end with a tag and without a digest: HOST/REPOSITORY:TAG',
    )
  }
  return [...new Set([tag, ...more.map((text) => parseTag(text))])]
}

/** Throws UsageError for options that only count while waiting. */
function assertWaits({ wait, requireHosts, dryRun }: Waiting): void {
  if (wait === undefined && requireHosts !== undefined) {
    throw new UsageError('--require-hosts needs --wait')
  }
  if (wait !== undefined && dryRun) throw new UsageError('--dry-run and --wait exclude each other')
}

type Waiting = {
  readonly wait: string | undefined
  readonly requireHosts: number | string | undefined
  readonly dryRun: boolean
}

function extraFiles(role: 'console' | 'script', path: string | undefined): OrbFile[] {
  return path === undefined ? [] : [{ role, path }]
}

function parseCreated(flag: string, text: string): string {
  if (isTime(text)) return text
  throw new UsageError(`${flag} must be a time such as 2026-05-20T12:00:00Z`)
}

function parseTarget(flag: string, text: string): Target {
  const target = findTarget(text)
  if (target !== undefined) return target
  throw new UsageError(`${flag} must be one of ${TARGETS.join(', ')}`)
}

/** Warns of layers with a problem and of missing inputs, or throws CommandError when they are required. */
function checkProvenance(image: UnikernelImage, required: boolean): void {
  for (const { role, title, problem } of image.layers) {
    if (problem === undefined || INPUTS.some((input) => input === role)) continue
    const name = visible(role ?? title ?? 'a layer')
    process.stderr.write(`rookery: warning: ${name}: ${visible(problem)}\n`)
  }
  const missing = listMissingInputs(image)
  if (missing.length === 0) return
  const names = visible(missing.join(', '))
  if (required) throw new CommandError(`nothing was pushed; missing inputs: ${names}`)
  process.stderr.write(`rookery: warning: the image has no input id; missing inputs: ${names}\n`)
}

function layersOf({ manifest, image }: LocalImage) {
  return manifest.layers.map(({ mediaType, digest, size, title }) => {
    const role = image?.layers.find((one) => one.digest === digest && one.title === title)?.role
    return { role: role ?? null, title: title ?? null, mediaType, digest, size }
  })
}

function manifestLines(image: LocalImage): string[] {
  const layers = image.manifest.layers.map(
    ({ digest, title }) => `layer      ${digest}  ${visible(title ?? '')}`,
  )
  return [...layers, `manifest   ${image.bytes.toString()}`]
}
