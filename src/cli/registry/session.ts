import { command, flag, JSON_OPTION, optionalArgument, value } from '../command.ts'
import { STATUS, UsageError } from '../errors.ts'
import { printJson, printResult, printTable, utcText, visible } from '../printing.ts'
import { queryOf, withHostApi } from './api-client.ts'
import { REGISTRY } from './host.ts'
import { LOGIN_OPTIONS } from './login-options.ts'

/** A session in an answer of the API. Times are RFC 3339. */
type ListedSession = {
  readonly id: string
  readonly actor: string
  readonly createdAt: string
  readonly seenAt: string
  readonly endsAt: string
}

const SESSIONS = '/api/v1/sessions'
/** The registry lists no more. */
const SESSIONS_MAX = 1000
const ACTOR = {
  actor: value('NAME', 'those of this credential or token; for administrators'),
}

/** `rookery session list`: the browsers that are logged in. */
export const listCommand = command({
  arguments: REGISTRY,
  options: { ...ACTOR, ...JSON_OPTION, ...LOGIN_OPTIONS },
  notes: 'ENDS is the end when nobody uses the session any more.',
  examples: [
    ['rookery session list registry.example.org', 'list your own'],
    ['rookery session list registry.example.org --actor ci', 'list those of a credential'],
  ],
  run(values, environment) {
    return withHostApi(values.host, values, environment, async (api) => {
      const path = `${SESSIONS}${queryOf({ actor: values.actor })}`
      const found = await api.list(path, 'sessions', 'the sessions', SESSIONS_MAX)
      if (values.json) printJson({ sessions: found })
      else printTable(HEADINGS, (found as ListedSession[]).map(cellsOf))
      return STATUS.ok
    })
  },
})

const HEADINGS = ['SESSION', 'NAME', 'BEGAN', 'LAST USED', 'ENDS']

function cellsOf({ id, actor, createdAt, seenAt, endsAt }: ListedSession): string[] {
  return [id, actor, utcText(createdAt), utcText(seenAt), utcText(endsAt)]
}

/** `rookery session revoke`: logs a browser out. */
export const revokeCommand = command({
  arguments: {
    ...REGISTRY,
    session: optionalArgument('SESSION', 'id of the session, as the list shows it'),
  },
  options: {
    all: flag('end all sessions'),
    ...ACTOR,
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  notes:
    'Give either SESSION or --all. The credential stays valid: rookery credential revoke ends it.',
  examples: [
    [
      'rookery session revoke registry.example.org 0b7c5f6e-7d3c-4b52-9d2f-3a1f0e6c8d41',
      'log one browser out',
    ],
    [
      'rookery session revoke registry.example.org --all --actor ci',
      'log out those of a credential',
    ],
  ],
  run(values, environment) {
    const { session, all, actor, json } = values
    if ((session === undefined) !== all) throw new UsageError('give either SESSION or --all')
    if (actor !== undefined && !all) throw new UsageError('--actor needs --all')
    return withHostApi(values.host, values, environment, async (api) => {
      if (session === undefined) {
        const path = `${SESSIONS}${queryOf({ actor })}`
        const { ended } = (await api.send('DELETE', path, 'the sessions', undefined)) as Ended
        printResult(json, { ended }, [
          ended === 1 ? '1 session ended.' : `${ended} sessions ended.`,
        ])
        return STATUS.ok
      }
      const path = `${SESSIONS}/${encodeURIComponent(session)}`
      await api.send('DELETE', path, `the session ${session}`, undefined)
      printResult(json, { ended: 1 }, [`Session ${visible(session)} ended.`])
      return STATUS.ok
    })
  },
})

type Ended = { readonly ended: number }
