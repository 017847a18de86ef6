/** Parses the command line. */
import { parseArgs } from 'node:util'
import { listRows, type Row, STORE_NAMES, type StoreName, titleOf } from './rows.ts'
import { PEER_NAMES, type ServerName } from './servers.ts'
import { VERDICT_ROUNDS_MIN } from './verdicts.ts'

export const USAGE = `npm run bench -- [options]
  --store NAME     filesystem, s3, or both, one after the other (filesystem)
  --quick          run every row for a moment, at 8 connections only
  --seconds N      duration of a row of small requests (4)
  --repeat N       measure each row N times, and report the cheapest (1; with --against 5)
  --rows REGEXP    only the rows whose "name @connections" matches
  --only NAME      measure only rookery or only docker-registry; on S3 also sdk or sdk-unsigned
  --against REV    compare Rookery with its build of another commit, such as HEAD~1, in place of
                   docker-registry: better, equal or worse by row; status 1 when a row is worse
  --json FILE      also write all figures to FILE
  --profile        profile Rookery's main thread in each row, and measure no other server`

const AGAINST_ROUNDS = 5

/** The parsed options. */
export interface Options {
  help: boolean
  quick: boolean
  profile: boolean
  rounds: number
  stores: readonly StoreName[]
  only: ServerName | undefined
  /** The name of a commit. */
  against: string | undefined
  json: string | undefined
  /** The rows by store. */
  rows: ReadonlyMap<StoreName, Row[]>
}

function parseStores(text: string): readonly StoreName[] {
  if (text === 'both') return STORE_NAMES
  const found = STORE_NAMES.filter((name) => name === text)
  if (found.length === 0) throw new Error(`--store ${text}: filesystem, s3 or both`)
  return found
}

function parseServer(text: string | undefined): ServerName | undefined {
  const found = PEER_NAMES.find((name) => name === text)
  if (text !== undefined && !found) throw new Error(`--only ${text}: ${PEER_NAMES.join(', ')}`)
  return found
}

/** Parses the arguments. Throws an error with a message for the user. */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      store: { type: 'string', default: 'filesystem' },
      quick: { type: 'boolean', default: false },
      seconds: { type: 'string' },
      repeat: { type: 'string' },
      rows: { type: 'string', default: '' },
      only: { type: 'string' },
      against: { type: 'string' },
      json: { type: 'string' },
      profile: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const { quick, help, profile, json, against } = values
  const seconds = Number(values.seconds ?? (quick ? 0.2 : 4))
  if (!(seconds > 0)) throw new Error('--seconds needs a number above 0')
  const rounds = Number(values.repeat ?? (against === undefined ? 1 : AGAINST_ROUNDS))
  if (!(Number.isInteger(rounds) && rounds > 0)) throw new Error('--repeat needs a number above 0')
  if (against !== undefined && rounds < VERDICT_ROUNDS_MIN) {
    throw new Error(`--against needs --repeat ${VERDICT_ROUNDS_MIN} or more for a verdict`)
  }
  if (against !== undefined && (values.only !== undefined || profile)) {
    throw new Error('--against measures both builds: without --only and --profile')
  }
  const stores = parseStores(values.store)
  const pattern = new RegExp(values.rows)
  const rowsOf = (store: StoreName) =>
    listRows({ store, seconds, quick }).filter((row) => pattern.test(titleOf(row)))
  const rows = new Map(stores.map((store) => [store, rowsOf(store)]))
  if ([...rows.values()].some((some) => some.length === 0)) {
    throw new Error(`--rows ${values.rows}: no row matches on ${stores.join(' and ')}`)
  }
  const only = parseServer(values.only)
  return { help, quick, profile, rounds, stores, only, against, json, rows }
}
