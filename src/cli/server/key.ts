import { access } from 'node:fs/promises'
import {
  listKeySummaries,
  rotateSigningKeys,
  type SigningAlgorithm,
  type SigningKeySummary,
} from '../../auth/signing-keys.ts'
import type { Config } from '../../config/config.ts'
import { ensureMasterKey, masterKeyPath, openSigningKeys } from '../../server/signing-keys.ts'
import { type Command, parseOptions, STATUS, UsageError } from '../command.ts'
import { columns, printJson, printLines, utcText } from '../printing.ts'
import { OPERATOR, type OpenRegistry, withRegistry } from './operator.ts'

const ALGORITHMS: readonly SigningAlgorithm[] = ['ES256', 'EdDSA']

const listCommand: Command = {
  words: ['keys', 'list'],
  usage: '[--json]',
  summary: 'List the keys that sign tokens: since when each signs, and until when it is believed',
  async run(args, environment) {
    const { json } = parseOptions(args, { json: { type: 'boolean', default: false } })
    return withRegistry(environment, async ({ db }) => {
      const keys = await listKeySummaries(db)
      if (json) printJson({ keys: keys.map(answerOf) })
      else printLines(keys.length === 0 ? ['There are none yet.'] : tableOf(keys))
      return STATUS.ok
    })
  },
}

const rotateCommand: Command = {
  words: ['keys', 'rotate'],
  usage: '[--algorithm ES256|EdDSA] [--now] [--json]',
  summary: 'Add a key that signs soon; with --now, as after a leak, all tokens until now are void',
  async run(args, environment) {
    const options = parseOptions(args, {
      algorithm: { type: 'string' },
      now: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    })
    const algorithm = parseAlgorithm(options.algorithm)
    return withRegistry(environment, async (state, config) => {
      const file = masterKeyPath(state.dataFolder, config)
      // Keys that nobody can read any more are no reason not to make new ones.
      if (!options.now) await openSigningKeys(state, config)
      const isNewFile = !(await exists(file))
      const key = await rotate(state, config, algorithm, options.now)
      if (options.json) printJson({ ...answerOf(key), voided: options.now })
      else printLines(options.now ? textAtOnce(key) : textOf(key))
      if (isNewFile) {
        process.stderr.write(
          `rookery: ${file} is new: give it to every replica, and restart those that run\n`,
        )
      }
      return STATUS.ok
    })
  },
}

/** The keys that sign tokens, on the command line. */
export const keysCommands: readonly Command[] = [listCommand, rotateCommand]

function parseAlgorithm(text: string | undefined): SigningAlgorithm | undefined {
  const algorithm = ALGORITHMS.find((one) => one === text)
  if (text !== undefined && algorithm === undefined) {
    throw new UsageError(`--algorithm must be ${ALGORITHMS.join(' or ')}, not "${text}"`)
  }
  return algorithm
}

/** Without an algorithm, that of the newest key. */
async function rotate(
  { db, dataFolder }: OpenRegistry,
  config: Config,
  asked: SigningAlgorithm | undefined,
  atOnce: boolean,
): Promise<SigningKeySummary> {
  const algorithm = asked ?? (await listKeySummaries(db)).at(-1)?.algorithm ?? 'ES256'
  const masterKey = await ensureMasterKey(dataFolder, config)
  const kid = await rotateSigningKeys(db, masterKey, algorithm, atOnce, OPERATOR)
  const key = (await listKeySummaries(db)).find((one) => one.kid === kid)
  if (key === undefined) throw new Error(`key ${kid} vanished while it was made`)
  return key
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}

function textAtOnce({ kid, algorithm }: SigningKeySummary): string[] {
  return [
    `Key ${kid} (${algorithm}) signs from now on.`,
    'All tokens that were given out until now are void, on every replica within seconds.',
  ]
}

function textOf({ kid, algorithm, activeAt }: SigningKeySummary): string[] {
  return [
    `Key ${kid} (${algorithm}) is published, and signs from ${utcText(activeAt)}.`,
    'Tokens that were given out before stay good until they expire.',
  ]
}

function answerOf({ kid, algorithm, state, activeAt, goneAt }: SigningKeySummary) {
  return { kid, algorithm, state, since: activeAt, until: goneAt }
}

function tableOf(keys: readonly SigningKeySummary[]): string[] {
  const rows = keys.map(({ kid, algorithm, state, activeAt, goneAt }) => [
    kid,
    algorithm,
    state,
    utcText(activeAt),
    goneAt === null ? '' : utcText(goneAt),
  ])
  return columns(['KEY', 'ALGORITHM', 'STATE', 'SIGNS SINCE', 'BELIEVED UNTIL'], rows)
}
