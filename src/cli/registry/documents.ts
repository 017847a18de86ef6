import { argument, choice, command, type Values, withDefault } from '../command.ts'
import { STATUS } from '../errors.ts'
import { printJson } from '../printing.ts'
import { queryOf, repositoryPath, requiredTagOrDigest, withImageApi } from './api-client.ts'
import { LOGIN_OPTIONS } from './login-options.ts'
import { PLATFORM_OPTIONS } from './platform-options.ts'

const IMAGE = { image: argument('HOST/REPOSITORY:TAG', 'image, by tag or digest') }
const OPTIONS = { ...PLATFORM_OPTIONS, ...LOGIN_OPTIONS }

/** `rookery sbom`: the software bill of materials of an image. */
export const sbomCommand = command({
  arguments: IMAGE,
  options: {
    format: withDefault(
      choice('FORMAT', ['cyclonedx', 'spdx'], 'format of the JSON document'),
      'cyclonedx',
    ),
    ...OPTIONS,
  },
  examples: [['rookery sbom registry.example.org/builds/www:live --format spdx', 'print SPDX']],
  run: (values, environment) => printDocument(values.format, values, environment),
})

/** `rookery provenance`: the build of an image as a SLSA v1 statement. */
export const provenanceCommand = command({
  arguments: IMAGE,
  options: OPTIONS,
  notes: 'The statement is JSON and unsigned.',
  examples: [['rookery provenance registry.example.org/builds/www:live', 'print the statement']],
  run: (values, environment) => printDocument('slsa', values, environment),
})

function printDocument(
  format: string,
  values: Values<typeof IMAGE> & Values<typeof OPTIONS>,
  environment: NodeJS.ProcessEnv,
): Promise<number> {
  const { target, arch } = values
  return withImageApi(values.image, values, environment, async (api, image) => {
    const query = queryOf({ target, arch })
    const below = `images/${requiredTagOrDigest(image)}/documents/${format}${query}`
    printJson(await api.find(repositoryPath(image, below), 'the image'))
    return STATUS.ok
  })
}
