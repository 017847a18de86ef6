import { access } from 'node:fs/promises'
import {
  listKeySummaries,
  rotateSigningKeys,
  type SigningAlgorithm,
  type SigningKeySummary,
} from '../../auth/signing-keys.ts'
import type { Config } from '../../config/config.ts'
import { ensureMasterKey, masterKeyPath, openSigningKeys } from '../../server/signing-keys.ts'
import { choice, command, describeDefault, flag, JSON_OPTION } from '../command.ts'
import { STATUS } from '../errors.ts'
import { printJson, printResult, printTable, utcText } from '../printing.ts'
import { OPERATOR, type OpenRegistry, withRegistry } from './operator.ts'

const ALGORITHMS: readonly SigningAlgorithm[] = ['ES256', 'EdDSA']

export const listCommand = command({
  options: JSON_OPTION,
  examples: [['rookery key list', 'list all signing keys']],
  async run({ json }, environment) {
    return withRegistry(environment, async ({ db }) => {
      const keys = await listKeySummaries(db)
      if (json) printJson({ keys: keys.map(jsonOf) })
      else printTable(HEADINGS, keys.map(cellsOf))
      return STATUS.ok
    })
  },
})

export const rotateCommand = command({
  options: {
    algorithm: describeDefault(
      choice('ALGORITHM', ALGORITHMS, 'algorithm of the key'),
      'that of the newest key',
    ),
    now: flag('sign with it at once and void all earlier tokens, as after a leak'),
    ...JSON_OPTION,
  },
  notes:
    'Without --now the key signs in ten minutes, and earlier tokens stay valid until they expire.',
  examples: [
    ['rookery key rotate', 'replace the signing key'],
    ['rookery key rotate --now', 'replace it after a leak'],
  ],
  async run({ algorithm, now, json }, environment) {
    return withRegistry(environment, async (state, config) => {
      const file = masterKeyPath(state.dataFolder, config)
      // With --now, old keys that cannot be decrypted do not prevent new ones.
      if (!now) await openSigningKeys(state, config)
      const isNewFile = !(await exists(file))
      const key = await rotate(state, config, algorithm, now)
      printResult(json, { ...jsonOf(key), voided: now }, now ? voidingLines(key) : lines(key))
      if (isNewFile) {
        process.stderr.write(
          `rookery: created ${file}: copy it to every replica and restart the running ones\n`,
        )
      }
      return STATUS.ok
    })
  },
})

/** Adds a key, with the algorithm of the newest key by default. */
async function rotate(
  { db, dataFolder }: OpenRegistry,
  config: Config,
  requested: SigningAlgorithm | undefined,
  now: boolean,
): Promise<SigningKeySummary> {
  const algorithm = requested ?? (await listKeySummaries(db)).at(-1)?.algorithm ?? 'ES256'
  const masterKey = await ensureMasterKey(dataFolder, config)
  const kid = await rotateSigningKeys(db, masterKey, algorithm, now, OPERATOR)
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

function voidingLines({ kid, algorithm }: SigningKeySummary): string[] {
  return [
    `Key ${kid} (${algorithm}) signs from now on.`,
    'All earlier tokens are void, on every replica within seconds.',
  ]
}

function lines({ kid, algorithm, activeAt }: SigningKeySummary): string[] {
  return [
    `Key ${kid} (${algorithm}) is published, and signs from ${utcText(activeAt)}.`,
    'Earlier tokens stay valid until they expire.',
  ]
}

function jsonOf({ kid, algorithm, state, activeAt, goneAt }: SigningKeySummary) {
  return { kid, algorithm, state, since: activeAt, until: goneAt }
}

const HEADINGS = ['KEY', 'ALGORITHM', 'STATE', 'SIGNS SINCE', 'VALID UNTIL']

function cellsOf({ kid, algorithm, state, activeAt, goneAt }: SigningKeySummary): string[] {
  return [kid, algorithm, state, utcText(activeAt), goneAt === null ? '' : utcText(goneAt)]
}
