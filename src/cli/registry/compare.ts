import { type Digest, type DigestPrefix, isDigestPrefix, parseDigest } from '../../oci/digest.ts'
import { parseTag, type Tag } from '../../oci/reference.ts'
import type { Comparison } from '../../unikernel/compare/images.ts'
import { describeComparison } from '../../unikernel/compare/report.ts'
import { argument, command, JSON_OPTION } from '../command.ts'
import { STATUS, UsageError } from '../errors.ts'
import { printResult, visible } from '../printing.ts'
import { queryOf, repositoryPath, requiredTagOrDigest, withImageApi } from './api-client.ts'
import {
  LOGIN_OPTIONS,
  type LoginOptions,
  type NamedImage,
  parseNamedImage,
} from './login-options.ts'
import { PLATFORM_OPTIONS } from './platform-options.ts'

/** `rookery compare`: the differences between two images of a repository. */
export const compareCommand = command({
  arguments: {
    image: argument('HOST/REPOSITORY:TAG', 'image, by tag or digest'),
    other: argument('TAG|DIGEST', 'later image of the same repository; also its whole reference'),
  },
  options: { ...PLATFORM_OPTIONS, ...JSON_OPTION, ...LOGIN_OPTIONS },
  examples: [
    ['rookery compare registry.example.org/builds/www:v41 live', 'show the changes since v41'],
  ],
  run(values, environment) {
    const { other: text, target, arch, json } = values
    return withImageApi(values.image, values, environment, async (api, image) => {
      const other = otherOf(text, image, values)
      const query = queryOf({ target, arch })
      const below = `images/${requiredTagOrDigest(image)}/compare/${other}${query}`
      const found = await api.find(repositoryPath(image, below), 'the comparison')
      printResult(json, found, json ? [] : describeComparison(found as Comparison).map(visible))
      return STATUS.ok
    })
  },
})

/** Parses the other image: a tag, a digest, or a whole reference in the same repository. */
function otherOf(
  text: string,
  { reference }: NamedImage,
  options: LoginOptions,
): Tag | Digest | DigestPrefix {
  if (!text.includes('/')) {
    const name = text.replace(/^[@:]/, '')
    if (isDigestPrefix(name)) return name
    return name.includes(':') ? parseDigest(name) : parseTag(name)
  }
  const other = parseNamedImage(text, options)
  const { host, repository } = other.reference
  if (host !== reference.host || repository !== reference.repository) {
    throw new UsageError(
      `both images must be in one repository, but one is in ${reference.host}/${reference.repository} and the other in ${host}/${repository}`,
    )
  }
  return requiredTagOrDigest(other)
}
