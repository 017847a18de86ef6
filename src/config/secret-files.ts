import { readFileSync, statSync } from 'node:fs'
import { ConfigError } from './config-error.ts'
import { SETTINGS } from './settings.ts'

/** Ends the name of the variable with the file of a secret, as Docker and Kubernetes mount secrets. */
const FILE_SUFFIX = '_FILE'
const SECRET_FILE_BYTES_MAX = 64 * 1024
const CONTROL_CHARACTER = /\p{Cc}/u

/** The settings whose value is a secret. Each also has a variable with the suffix `_FILE`. */
export const SECRET_SETTINGS = SETTINGS.filter((setting) => 'isSecret' in setting)
export type SecretName = Extract<(typeof SETTINGS)[number], { isSecret: true }>['name']

/** The names of the variables that name a file with a secret. */
export const SECRET_FILE_NAMES = SECRET_SETTINGS.map(({ name }) => name + FILE_SUFFIX)

/** Returns the file of a secret, when the environment names one. */
export function secretFile(environment: NodeJS.ProcessEnv, name: SecretName): string | undefined {
  return environment[name + FILE_SUFFIX] || undefined
}

/** Returns a secret from its variable, or from the file that `NAME_FILE` names. Throws ConfigError. */
export function readSecretSetting(
  environment: NodeJS.ProcessEnv,
  name: SecretName,
): string | undefined {
  const file = secretFile(environment, name)
  const value = environment[name] || undefined
  if (file === undefined) return value
  const fileName = name + FILE_SUFFIX
  if (value !== undefined) {
    throw new ConfigError(`${name} and ${fileName} exclude each other: set one of them`)
  }
  return readSecretFile(fileName, file)
}

/** The messages never repeat the content. */
function readSecretFile(name: string, file: string): string {
  const refuse = (problem: string) => new ConfigError(`${name}: ${file} ${problem}`)
  const text = contentOf(file, refuse)
  const secret = text.replace(/\r?\n$/, '')
  if (secret === '') throw refuse('is empty; it must have the secret')
  if (CONTROL_CHARACTER.test(secret)) throw refuse('must have one line, the secret')
  return secret
}

function contentOf(file: string, refuse: (problem: string) => ConfigError): string {
  try {
    const found = statSync(file)
    if (!found.isFile()) throw refuse('is no regular file')
    if (found.size > SECRET_FILE_BYTES_MAX) {
      throw refuse(`has ${found.size} bytes; a secret has at most ${SECRET_FILE_BYTES_MAX}`)
    }
    return readFileSync(file, 'utf8')
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause)
    throw refuse(`cannot be read (${code})`)
  }
}
