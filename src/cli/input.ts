import { readFile } from 'node:fs/promises'
import { CommandError, reasonOf, UsageError } from './errors.ts'
import { visible } from './printing.ts'

const STDIN = '-'
/** A header or a key whose value is probably a secret. */
export const SECRET_NAME = /authorization|cookie|secret|token|passw|api[-_]?key/i
const SECRET_CHARACTERS_MAX = 64 * 1024

/** Returns a secret from a file, or with `-` from standard input, without the end of the line. Throws CommandError. */
export async function readSecret(file: string, what: string): Promise<string> {
  const text = file === STDIN ? await readStdin(what) : await readSecretFile(file, what)
  const secret = text.replace(/\r?\n$/, '')
  const where = file === STDIN ? 'standard input' : visible(file)
  if (secret === '') throw new CommandError(`${where} is empty; it must contain ${what}`)
  if (secret.length > SECRET_CHARACTERS_MAX || /\p{Cc}/u.test(secret)) {
    throw new CommandError(`${where} must contain ${what} on one line and nothing else`)
  }
  return secret
}

/**
 * Returns the text of standard input for the argument `-`. Refuses every other argument and does not repeat it, because
 * arguments are visible to all users of the machine. Throws UsageError and CommandError.
 */
export async function readSecretArgument(argument: string, what: string): Promise<string> {
  if (argument !== STDIN) {
    throw new UsageError(
      `give ${what} on standard input, with - in its place: all users of this machine can read arguments`,
    )
  }
  return (await readStdin(what)).trim()
}

/**
 * Parses the JSON of an argument, or of standard input for `-`. Refuses an argument with a key such as `token`, and does not
 * repeat it. Throws UsageError and CommandError.
 */
export async function readJson(flag: string, argument: string): Promise<unknown> {
  const text = argument === STDIN ? await readStdin(`the JSON of ${flag}`) : argument
  let secret = ''
  let value: unknown
  try {
    value = JSON.parse(text, (key, one) => {
      if (SECRET_NAME.test(key)) secret = key
      return one
    })
  } catch (cause) {
    throw new UsageError(`${flag} must be JSON, such as '{"text": "{{repository}}"}'`, { cause })
  }
  if (secret === '' || argument === STDIN) return value
  throw new UsageError(
    `all users of this machine can read arguments: give the JSON with ${visible(secret)} on standard input, with ${flag} -`,
  )
}

async function readSecretFile(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    const message = `${what} cannot be read from ${visible(path)}: ${reasonOf(cause)}`
    throw new CommandError(message, { cause })
  }
}

async function readStdin(what: string): Promise<string> {
  let text = ''
  process.stdin.setEncoding('utf8')
  for await (const chunk of process.stdin) {
    text += String(chunk)
    if (text.length > SECRET_CHARACTERS_MAX) {
      throw new CommandError(`standard input is too long for ${what}`)
    }
  }
  return text
}
