import { type Digest, type DigestPrefix, isDigestPrefix, parseDigest } from '../../oci/digest.ts'
import { parseTag, type Tag } from '../../oci/reference.ts'
import type { Comparison } from '../../unikernel/compare/images.ts'
import { describeChanges, describeReplaced } from '../../unikernel/compare/report.ts'
import { argument, command, flag, JSON_OPTION, optionalArgument, type Values } from '../command.ts'
import { STATUS, UsageError } from '../errors.ts'
import { printResult, utcText, visible } from '../printing.ts'
import { queryOf, repositoryPath, requiredTagOrDigest, withImageApi } from './api-client.ts'
import {
  LOGIN_OPTIONS,
  type LoginOptions,
  type NamedImage,
  parseNamedImage,
} from './login-options.ts'
import { PLATFORM_OPTIONS } from './platform-options.ts'

const WITH = {
  previous: flag('compare with the newest earlier build that has another kernel'),
  next: flag('compare with the first later build that has another kernel'),
  latest: flag('compare with the newest build'),
}
type With = Values<typeof WITH>

/** `rookery compare`: the differences between two images of a repository. */
export const compareCommand = command({
  arguments: {
    image: argument('HOST/REPOSITORY:TAG', 'image, by tag or digest'),
    other: optionalArgument(
      'TAG|DIGEST',
      'later image of the same repository; also its whole reference',
    ),
  },
  options: { ...WITH, ...PLATFORM_OPTIONS, ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes:
    'Sources with other bytes under the same address come first. Earlier and later builds are those on the same platform, for the same target and processor.',
  examples: [
    ['rookery compare registry.example.org/builds/www:v41 live', 'show the changes since v41'],
    ['rookery compare registry.example.org/builds/www:live --previous', 'show what changed last'],
  ],
  run(values, environment) {
    const { other: text, target, arch, json } = values
    return withImageApi(values.image, values, environment, async (api, image) => {
      const which = withOf(text, values)
      const at = `images/${requiredTagOrDigest(image)}/compare`
      const below =
        text === undefined
          ? `${at}${queryOf({ with: which, target, arch })}`
          : `${at}/${otherOf(text, image, values)}${queryOf({ target, arch })}`
      const found = (await api.find(repositoryPath(image, below), 'the comparison')) as Compared
      printResult(json, found, json ? [] : comparisonLines(found, which !== undefined).map(visible))
      return STATUS.ok
    })
  },
})

type Side = { readonly digest: string; readonly tags: readonly string[]; readonly pushedAt: string }
type Compared = Comparison & { readonly from: Side; readonly to: Side }

/** Replaced sources come first, then the images, unless the command line names both. */
function comparisonLines(found: Compared, withSides: boolean): string[] {
  const side = ({ digest, tags, pushedAt }: Side) =>
    `${digest} (${tags.length === 0 ? 'no tag' : tags.join(', ')}), pushed ${utcText(pushedAt)}`
  const sides = [`from ${side(found.from)}`, `to   ${side(found.to)}`]
  return [...describeReplaced(found), ...(withSides ? sides : []), ...describeChanges(found)]
}

/** Returns the option that names the other image; undefined when an argument names it. Throws UsageError. */
function withOf(other: string | undefined, options: With): keyof With | undefined {
  const given = (['previous', 'next', 'latest'] as const).filter((name) => options[name])
  if (given.length + (other === undefined ? 0 : 1) === 1) return given[0]
  throw new UsageError(
    'name one other image: a tag or digest, or one of --previous, --next and --latest',
  )
}

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
