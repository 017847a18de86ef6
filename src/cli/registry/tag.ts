import { type Digest, type DigestPrefix, isDigestPrefix, parseDigest } from '../../oci/digest.ts'
import type { Tag } from '../../oci/reference.ts'
import { argument, command, describeDefault, JSON_OPTION, value } from '../command.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { LIMIT_OPTION, MORE_LINE } from '../numbers.ts'
import { printJson, printLines, printResult, printTable, utcText, visible } from '../printing.ts'
import {
  parseDigestOption,
  repositoryPath,
  requiredTag,
  shortDigest,
  withImageApi,
} from './api-client.ts'
import type { TagPosition } from './api-types.ts'
import { hiddenLines, nameText } from './hidden-names.ts'
import { LOGIN_OPTIONS, type NamedImage } from './login-options.ts'
import { removeFrom, withRemoteRepository } from './removal.ts'

const TAG = { image: argument('HOST/REPOSITORY:TAG', 'tag') }

/** `rookery tag history`: the images that a tag pointed to. */
export const historyCommand = command({
  arguments: TAG,
  options: { ...LIMIT_OPTION, ...JSON_OPTION, ...LOGIN_OPTIONS },
  examples: [['rookery tag history registry.example.org/builds/www:live', 'list its images']],
  run(values, environment) {
    return withImageApi(values.image, values, environment, async (api, image) => {
      const path = repositoryPath(image, `tags/${requiredTag(image)}/history`)
      const { items, more } = await api.listUpTo(path, 'positions', 'the history', values.limit)
      if (values.json) printJson({ positions: items, more })
      else printPositions(items as TagPosition[])
      if (!values.json && more) printLines([MORE_LINE])
      return STATUS.ok
    })
  },
})

/** `rookery tag rollback`: a tag back to an earlier image. */
export const rollbackCommand = command({
  arguments: TAG,
  options: {
    to: describeDefault(value('DIGEST', 'image from the history'), 'the previous one'),
    if: value('DIGEST', 'fail unless the tag is at this image now'),
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  examples: [
    ['rookery tag rollback registry.example.org/builds/www:live', 'go back to the previous image'],
  ],
  run(values, environment) {
    return withImageApi(values.image, values, environment, async (api, image) => {
      const tag = requiredTag(image)
      const [to, from] = [parseDigestOption(values.to), parseDigestOption(values.if)]
      const now = async () => {
        const history = repositoryPath(image, `tags/${tag}/history?n=1`)
        const { positions } = (await api.find(history, 'the history')) as {
          readonly positions: readonly TagPosition[]
        }
        return positions[0]?.digest ?? undefined
      }
      const expected = await wholeDigest(from, tag, now)
      const body = to === undefined ? {} : { digest: to }
      const headers = expected === undefined ? {} : { 'if-match': `"${expected}"` }
      const path = repositoryPath(image, `tags/${tag}/rollback`)
      const moved = (await api.change(path, `tag ${tag}`, body, headers)) as {
        readonly digest: string
        readonly previousDigest: string | null
      }
      const before = moved.previousDigest ?? 'nothing: it was deleted'
      printResult(values.json, moved, [`${tag} is at ${moved.digest}; it was at ${before}`])
      return STATUS.ok
    })
  },
})

/** `rookery tag delete`: a tag, and not its image. */
export const deleteCommand = command({
  arguments: TAG,
  options: {
    if: value('DIGEST', 'fail unless the tag is at this image now'),
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes:
    'The image stays, under its digest and its other tags. With Rookery, rookery tag rollback restores the tag. Immutable tags are refused.',
  examples: [['rookery tag delete registry.example.org/builds/www:next', 'delete the tag next']],
  run(values, environment) {
    return withRemoteRepository(values.image, values, environment, async (repository, image) => {
      const tag = requiredTagAlone(image)
      const now = async () => (await repository.findManifest(tag))?.digest
      const expected = await wholeDigest(parseDigestOption(values.if), tag, now)
      const { digest } = await removeFrom(repository, tag, expected)
      const was = digest === undefined ? '' : `; it was at ${digest}, which stays`
      printResult(
        values.json,
        { tag, digest: digest ?? null },
        [`Deleted tag ${tag}${was}`].map(visible),
      )
      return STATUS.ok
    })
  },
})

/** A digest beside the tag would not be compared with it. Throws UsageError. */
function requiredTagAlone(image: NamedImage): Tag {
  const tag = requiredTag(image)
  const { digest, digestPrefix } = image.reference
  if (digest === undefined && digestPrefix === undefined) return tag
  throw new UsageError('give the tag alone, and its digest with --if')
}

/**
 * Returns the whole digest of a shortened one, because If-Match compares whole ones. Throws CommandError when the tag is
 * not at it.
 */
async function wholeDigest(
  digest: Digest | DigestPrefix | undefined,
  tag: Tag,
  currentDigest: () => Promise<string | undefined>,
): Promise<Digest | undefined> {
  if (digest === undefined || !isDigestPrefix(digest)) return digest
  const now = await currentDigest()
  if (now?.startsWith(digest)) return parseDigest(now)
  throw new CommandError(`tag ${tag} is at ${visible(now ?? 'no image')}, and not at ${digest}`)
}

const HEADINGS = ['MOVED', 'REASON', 'DIGEST', 'STATE', 'ACTOR']

function printPositions(positions: readonly TagPosition[]): void {
  printTable(HEADINGS, positions.map(cellsOf))
  printLines(hiddenLines(positions.map(({ actor }) => actor)))
}

function cellsOf({ digest, present, reason, actor, movedAt }: TagPosition): string[] {
  return [
    utcText(movedAt),
    reason,
    digest === null ? '-' : shortDigest(digest),
    digest === null ? 'tag deleted' : present ? 'stored' : 'image deleted',
    nameText(actor),
  ]
}
