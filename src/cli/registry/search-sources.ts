import { argument, command, JSON_OPTION, value } from '../command.ts'
import { STATUS, UsageError } from '../errors.ts'
import { LIMIT_OPTION, MORE_LINE } from '../numbers.ts'
import { printJson, printLines } from '../printing.ts'
import { queryOf, withHostApi } from './api-client.ts'
import type { SourceHit } from './api-types.ts'
import { HIT_OPTIONS, hitQuery } from './hit-options.ts'
import { printSourceHits } from './image-table.ts'
import { LOGIN_OPTIONS } from './login-options.ts'

const TRUNCATED = 'There are more sources than the registry compares, so images may be missing.'

/** `rookery search sources`: the images that were built from a source. */
export const sourcesCommand = command({
  arguments: { host: argument('HOST', 'registry, such as registry.example.org') },
  options: {
    from: value('URL', 'source repository; #REF after it: only this tag, branch or commit'),
    checksum: value('SUM', 'checksum of an archive, such as sha256=0f1e…, or of md5 or sha512'),
    ...HIT_OPTIONS,
    ...LIMIT_OPTION,
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes: 'Sources of installed packages count, as do those that were vendored.',
  examples: [
    [
      'rookery search sources registry.example.org --from https://github.com/mirage/mirage-crypto --tagged',
      'find images with code of a repository',
    ],
    [
      'rookery search sources registry.example.org --checksum md5=1f2d45e0a8a5b1d0b5a6b0a0d1a0c0f3',
      'find images that an archive was built into',
    ],
  ],
  run(values, environment) {
    const { host, from, checksum, limit, json } = values
    if ((from === undefined) === (checksum === undefined)) {
      throw new UsageError('name one source, by --from or by --checksum')
    }
    return withHostApi(host, values, environment, async (api) => {
      const path = `/api/v1/sources${queryOf({ from, checksum, ...hitQuery(values) })}`
      const { items, more, truncated } = await api.listUpTo(path, 'images', 'the source', limit)
      if (json) printJson({ images: items, more, truncated })
      else printSourceHits(items as SourceHit[])
      if (!json && more) printLines([MORE_LINE])
      if (!json && truncated) printLines([TRUNCATED])
      return STATUS.ok
    })
  },
})
