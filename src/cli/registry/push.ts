import { formatReference, type ImageReference } from '../../client/image-reference.ts'
import { pushImage } from '../../client/push.ts'
import { RemoteRepository } from '../../client/remote-repository.ts'
import { parseTag, type Tag } from '../../oci/reference.ts'
import type { UnikernelImage } from '../../unikernel/image.ts'
import { isTime } from '../../unikernel/time.ts'
import { listMissingInputs } from '../../unikernel/validation.ts'
import { type Command, CommandError, STATUS, UsageError } from '../command.ts'
import { printJson, printLines, visible } from '../printing.ts'
import { type LocalImage, makeLocalImage } from './local-image.ts'
import { listOrbFiles, type OrbFile } from './orb-folder.ts'
import { ProgressBar } from './progress-bar.ts'
import { forUsers, parseWords } from './registry-commands.ts'
import {
  findLogin,
  LOGIN_OPTIONS,
  LOGIN_USAGE,
  type LoginOptions,
  type NamedImage,
  parseNamedImage,
} from './registry-login.ts'

// As many as the registry takes in one request.
const TAGS_MAX = 64

/** `rookery push`: an orb build as it stands becomes an image in any registry. */
export const pushCommand: Command = {
  words: ['push'],
  usage: `DIR|FILE HOST/REPOSITORY:TAG [TAG...] [--kernel FILE] [--config FILE] [--console FILE] [--script FILE] [--created TIME] [--require-provenance] [--dry-run] ${LOGIN_USAGE} [--json]`,
  summary: "Push orb's output folder, or one kernel, as an image to any OCI registry",
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      {
        kernel: { type: 'string' },
        config: { type: 'string' },
        console: { type: 'string' },
        script: { type: 'string' },
        created: { type: 'string' },
        'require-provenance': { type: 'boolean', default: false },
        'dry-run': { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        ...LOGIN_OPTIONS,
      },
      { least: 2, most: 1 + TAGS_MAX, expected: `DIR, HOST/REPOSITORY:TAG and more tags` },
    )
    const [path = '', place = '', ...more] = positionals
    return forUsers(async () => {
      const named = parseNamedImage(place, values)
      const tags = tagsOf(named.reference, more)
      const image = await makeLocalImage({
        files: [
          ...(await listOrbFiles(path, values.kernel)),
          ...extraFiles('console', values.console),
          ...extraFiles('script', values.script),
        ],
        config: values.config,
        created: parseCreated(values.created),
      })
      const known = image.image
      if (known === undefined) throw new CommandError(`${visible(path)} has no Solo5 kernel`)
      weighProvenance(known, values['require-provenance'])
      if (!values['dry-run']) await send(image, named, tags, values, environment)
      const references = tags.map((tag) => formatReference({ ...named.reference, tag }))
      const { digest } = image
      const inputId = known.inputId ?? null
      const dry = values['dry-run'] ? { manifest: JSON.parse(image.bytes.toString()) } : {}
      if (values.json) printJson({ digest, references, inputId, layers: layersOf(image), ...dry })
      else {
        printLines([
          `digest     ${digest}`,
          ...references.map((reference) => `reference  ${reference}`),
          `input id   ${inputId ?? 'none'}`,
          ...(values['dry-run'] ? dryLines(image) : []),
        ])
      }
      return STATUS.ok
    })
  },
}

function tagsOf({ tag, digest }: ImageReference, more: readonly string[]): Tag[] {
  if (tag === undefined || digest !== undefined) {
    throw new UsageError(
      'where it is pushed must end with a tag and no digest: HOST/REPOSITORY:TAG',
    )
  }
  return [...new Set([tag, ...more.map((text) => parseTag(text))])]
}

function extraFiles(role: 'console' | 'script', path: string | undefined): OrbFile[] {
  return path === undefined ? [] : [{ role, path }]
}

function parseCreated(text: string | undefined): string | undefined {
  if (text === undefined || isTime(text)) return text
  throw new UsageError('--created must be a time such as 2026-05-20T12:00:00Z')
}

/** Warns of what lacks, or refuses it. */
function weighProvenance(image: UnikernelImage, required: boolean): void {
  const lacks = listMissingInputs(image)
  if (lacks.length === 0) return
  const names = visible(lacks.join(', '))
  if (required) throw new CommandError(`the image lacks ${names}: nothing was pushed`)
  process.stderr.write(`rookery: warning: the image lacks ${names}, so it has no input id\n`)
}

async function send(
  image: LocalImage,
  named: NamedImage,
  tags: readonly Tag[],
  options: LoginOptions,
  environment: NodeJS.ProcessEnv,
): Promise<void> {
  const login = await findLogin(named, options, environment)
  const { blobs, bytes: manifest, digest } = image
  const total = blobs.reduce((sum, { size }) => sum + size, 0)
  const bar = new ProgressBar(process.stderr, total)
  const repository = new RemoteRepository(named.reference, named.reference.repository, {
    login,
    environment,
    actions: 'pull,push',
    onWait: (milliseconds, reason) =>
      bar.note(`rookery: ${visible(reason)}; again in ${Math.ceil(milliseconds / 1000)} s`),
  })
  try {
    await pushImage(repository, { blobs, manifest, digest, tags, progress: bar })
  } finally {
    bar.clear()
    await repository.close()
  }
}

function layersOf({ manifest, image }: LocalImage) {
  return manifest.layers.map(({ mediaType, digest, size, title }) => {
    const role = image?.layers.find((one) => one.digest === digest && one.title === title)?.role
    return { role: role ?? null, title: title ?? null, mediaType, digest, size }
  })
}

function dryLines(image: LocalImage): string[] {
  const layers = image.manifest.layers.map(
    ({ digest, title }) => `layer      ${digest}  ${visible(title ?? '')}`,
  )
  return [...layers, `manifest   ${image.bytes.toString()}`]
}
