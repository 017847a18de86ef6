import { type Command, STATUS, UsageError } from '../command.ts'
import { printJson } from '../printing.ts'
import { queryOf, repositoryPath, wantedPlace, withApi } from './registry-api.ts'
import { parseWords } from './registry-commands.ts'
import { LOGIN_OPTIONS, LOGIN_USAGE, parseNamedImage } from './registry-login.ts'

const CHOICE = { target: { type: 'string' }, arch: { type: 'string' } } as const
const IMAGE = { least: 1, most: 1, expected: 'HOST/REPOSITORY:TAG' }

const sbomCommand: Command = {
  words: ['sbom'],
  usage: `HOST/REPOSITORY:TAG [--format cyclonedx|spdx] [--target NAME] [--arch NAME] ${LOGIN_USAGE}`,
  summary: 'Print what an image is made of, as CycloneDX or SPDX in JSON',
  run(args, environment) {
    const options = {
      format: { type: 'string', default: 'cyclonedx' },
      ...CHOICE,
      ...LOGIN_OPTIONS,
    } as const
    const { values, positionals } = parseWords(args, options, IMAGE)
    const { format } = values
    if (format !== 'cyclonedx' && format !== 'spdx') {
      throw new UsageError(`--format must be cyclonedx or spdx, not "${format}"`)
    }
    return printDocument(positionals[0] ?? '', format, values, environment)
  },
}

const provenanceCommand: Command = {
  words: ['provenance'],
  usage: `HOST/REPOSITORY:TAG [--target NAME] [--arch NAME] ${LOGIN_USAGE}`,
  summary: 'Print how an image was made, as an unsigned SLSA v1 statement in JSON',
  run(args, environment) {
    const { values, positionals } = parseWords(args, { ...CHOICE, ...LOGIN_OPTIONS }, IMAGE)
    return printDocument(positionals[0] ?? '', 'slsa', values, environment)
  },
}

/** Documents about an image of a registry. */
export const documentCommands: readonly Command[] = [sbomCommand, provenanceCommand]

type Values = Parameters<typeof withApi>[1] & {
  readonly target?: string | undefined
  readonly arch?: string | undefined
}

function printDocument(
  reference: string,
  format: string,
  values: Values,
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const named = () => parseNamedImage(reference, values)
  return withApi(named, values, environment, async (api, image) => {
    const { target, arch } = values
    const below = `images/${wantedPlace(image)}/documents/${format}${queryOf({ target, arch })}`
    printJson(await api.find(repositoryPath(image, below), 'the image'))
    return STATUS.ok
  })
}
