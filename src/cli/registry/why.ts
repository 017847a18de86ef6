import type { PathsDescription } from '../../unikernel/dependencies/description.ts'
import { argument, command, JSON_OPTION } from '../command.ts'
import { STATUS } from '../errors.ts'
import { printResult, visible } from '../printing.ts'
import { queryOf, repositoryPath, requiredTagOrDigest, withImageApi } from './api-client.ts'
import { LOGIN_OPTIONS } from './login-options.ts'
import { PLATFORM_OPTIONS } from './platform-options.ts'

/** `rookery image why`: the dependencies that brought a package into an image. */
export const whyCommand = command({
  arguments: {
    image: argument('HOST/REPOSITORY:TAG', 'image, by tag or digest'),
    package: argument('PACKAGE', 'package of opam, such as lwt'),
  },
  options: { ...PLATFORM_OPTIONS, ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes:
    'Each line is a path of dependencies from a requested package; the shortest paths are first. The status is 1 when the image does not have the package.',
  examples: [['rookery image why registry.example.org/builds/www:live lwt', 'show what needs lwt']],
  run(values, environment) {
    const { target, arch, json } = values
    return withImageApi(values.image, values, environment, async (api, image) => {
      const query = queryOf({ package: values.package, target, arch })
      const below = `images/${requiredTagOrDigest(image)}/dependencies${query}`
      const path = repositoryPath(image, below)
      const found = (await api.find(path, 'the image')) as PathsDescription
      printResult(json, found, json ? [] : lines(found).map(visible))
      return found.versions.length > 0 ? STATUS.ok : STATUS.found
    })
  },
})

function lines({ package: name, versions, paths, more }: PathsDescription): string[] {
  if (versions.length === 0) return [`the image has no package ${name} of opam`]
  if (paths.length === 0) return [`${name} is in the image, but no recorded dependency needs it`]
  return [
    ...paths.map((path) => path.map(packageText).join(' > ')),
    ...(more ? ['There may be further paths.'] : []),
  ]
}

function packageText({ name, version }: PathsDescription['paths'][number][number]): string {
  return version === null ? name : `${name}.${version}`
}
