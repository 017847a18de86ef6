import { parseDigest } from '../../oci/digest.ts'
import { parseTag } from '../../oci/reference.ts'
import type { Comparison } from '../../unikernel/compare/images.ts'
import { describeComparison } from '../../unikernel/compare/report.ts'
import { argument, command, JSON_OPTION } from '../command.ts'
import { STATUS } from '../errors.ts'
import { printResult, visible } from '../printing.ts'
import { queryOf, repositoryPath, requiredTagOrDigest, withImageApi } from './api-client.ts'
import { LOGIN_OPTIONS } from './login-options.ts'
import { PLATFORM_OPTIONS } from './platform-options.ts'

/** `rookery compare`: the differences between two images of a repository. */
export const compareCommand = command({
  arguments: {
    image: argument('HOST/REPOSITORY:TAG', 'image, by tag or digest'),
    other: argument('TAG|DIGEST', 'earlier image of the same repository'),
  },
  options: { ...PLATFORM_OPTIONS, ...JSON_OPTION, ...LOGIN_OPTIONS },
  examples: [
    ['rookery compare registry.example.org/builds/www:live v41', 'show the changes since v41'],
  ],
  run(values, environment) {
    const { other: text, target, arch, json } = values
    return withImageApi(values.image, values, environment, async (api, image) => {
      const other = text.includes(':') ? parseDigest(text) : parseTag(text)
      const query = queryOf({ target, arch })
      const below = `images/${requiredTagOrDigest(image)}/compare/${other}${query}`
      const found = await api.find(repositoryPath(image, below), 'the comparison')
      printResult(json, found, json ? [] : describeComparison(found as Comparison).map(visible))
      return STATUS.ok
    })
  },
})
