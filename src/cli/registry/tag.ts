import { type Command, STATUS } from '../command.ts'
import { columns, printJson, printLines } from '../printing.ts'
import type { ListedPosition } from './api-types.ts'
import {
  digestOption,
  parseLimit,
  repositoryPath,
  shortDigest,
  wantedTag,
  withApi,
} from './registry-api.ts'
import { parseWords } from './registry-commands.ts'
import { LOGIN_OPTIONS, LOGIN_USAGE, parseNamedImage } from './registry-login.ts'

const TAG = { least: 1, most: 1, expected: 'HOST/REPOSITORY:TAG' }

const historyCommand: Command = {
  words: ['tag', 'history'],
  usage: `HOST/REPOSITORY:TAG [--limit N] ${LOGIN_USAGE} [--json]`,
  summary: 'Show where a tag was, the newest first, also after it was deleted',
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      { limit: { type: 'string' }, json: { type: 'boolean', default: false }, ...LOGIN_OPTIONS },
      TAG,
    )
    const limit = parseLimit(values.limit)
    const named = () => parseNamedImage(positionals[0] ?? '', values)
    return withApi(named, values, environment, async (api, image) => {
      const path = repositoryPath(image, `tags/${wantedTag(image)}/history`)
      const positions = await api.list(path, 'positions', 'the history', limit)
      if (values.json) printJson({ positions })
      else printPositions(positions as ListedPosition[])
      return STATUS.ok
    })
  },
}

const rollbackCommand: Command = {
  words: ['tag', 'rollback'],
  usage: `HOST/REPOSITORY:TAG [--to DIGEST] [--if DIGEST] ${LOGIN_USAGE} [--json]`,
  summary: 'Move a tag back to where it was before, or to DIGEST; with --if, only from there',
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      {
        to: { type: 'string' },
        if: { type: 'string' },
        json: { type: 'boolean', default: false },
        ...LOGIN_OPTIONS,
      },
      TAG,
    )
    const named = () => parseNamedImage(positionals[0] ?? '', values)
    return withApi(named, values, environment, async (api, image) => {
      const tag = wantedTag(image)
      const [to, from] = [digestOption(values.to), digestOption(values.if)]
      const body = to === undefined ? {} : { digest: to }
      const headers = from === undefined ? {} : { 'if-match': `"${from}"` }
      const path = repositoryPath(image, `tags/${tag}/rollback`)
      const done = await api.change(path, `tag ${tag}`, body, headers)
      const { digest, previousDigest } = done as { digest: string; previousDigest: string | null }
      const text = `${tag} is at ${digest}; it was at ${previousDigest ?? 'nothing: it was deleted'}`
      if (values.json) printJson(done)
      else printLines([text])
      return STATUS.ok
    })
  },
}

/** Where tags were, and back to it. */
export const tagCommands: readonly Command[] = [historyCommand, rollbackCommand]

function printPositions(positions: readonly ListedPosition[]): void {
  const rows = positions.map(({ digest, present, reason, actor, movedAt }) => [
    movedAt.slice(0, 19),
    reason,
    digest === null ? '-' : shortDigest(digest),
    digest === null || present ? '' : 'gone',
    actor ?? '',
  ])
  printLines(
    rows.length === 0 ? ['There are none.'] : columns(['MOVED', 'BY', 'TO', '', 'ACTOR'], rows),
  )
}
