import { spawn } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { errnoOf } from '../async/errno.ts'
import { isObject, type JsonObject } from '../oci/descriptor.ts'
import type { Login } from './login.ts'

/** A login file cannot be read, or a credential helper failed. The message is one line. */
export class UnreadableLoginsError extends Error {
  override readonly name = 'UnreadableLoginsError'
}

type Environment = Readonly<Record<string, string | undefined>>

const FILE_BYTES_MAX = 1024 * 1024
const HELPER_MILLISECONDS_MAX = 30_000
const HELPER_BYTES_MAX = 256 * 1024
const HELPER_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
/** The user name that marks an identity token in a helper's answer. */
const IDENTITY_TOKEN_USER = '<token>'
const DOCKER_HUB = ['docker.io', 'registry-1.docker.io', 'index.docker.io']

/**
 * Finds the login that `docker login`, `oras login` or `podman login` stored for a registry: in the file
 * `$REGISTRY_AUTH_FILE`, in `config.json` of `$DOCKER_CONFIG` or `~/.docker`, in podman's own file, or
 * in the credential helper that one of these names. Throws
 * UnreadableLoginsError.
 */
export async function findDockerLogin(
  host: string,
  repository: string,
  environment: Environment,
): Promise<Login | undefined> {
  const { REGISTRY_AUTH_FILE: named, XDG_RUNTIME_DIR: runtime } = environment
  const docker = environment.DOCKER_CONFIG || join(environment.HOME || homedir(), '.docker')
  const paths = [
    ...(named ? [named] : []),
    join(docker, 'config.json'),
    ...(runtime ? [join(runtime, 'containers/auth.json')] : []),
  ]
  for (const path of paths) {
    const found = await findInFile(path, host, repository, environment)
    if (found !== undefined) return found
  }
  return undefined
}

async function findInFile(
  path: string,
  host: string,
  repository: string,
  environment: Environment,
): Promise<Login | undefined> {
  const config = await findConfig(path)
  if (config === undefined) return undefined
  const hosts = DOCKER_HUB.includes(host) ? ['https://index.docker.io/v1/', ...DOCKER_HUB] : [host]
  const { credHelpers, credsStore, auths } = config
  for (const name of hosts) {
    const helper = isObject(credHelpers) ? credHelpers[name] : undefined
    if (typeof helper === 'string') return askHelper(helper, name, environment)
  }
  const entries = isObject(auths) ? auths : {}
  for (const name of hosts) {
    const found = findEntry(entries, name, repository, path)
    if (found !== undefined) return found
    if (typeof credsStore !== 'string') continue
    const kept = await askHelper(credsStore, name, environment)
    if (kept !== undefined) return kept
  }
  return undefined
}

async function findConfig(path: string): Promise<JsonObject | undefined> {
  let config: unknown
  try {
    const { size } = await stat(path)
    if (size > FILE_BYTES_MAX) throw new Error(`it has more than ${FILE_BYTES_MAX} bytes`)
    config = JSON.parse(await readFile(path, 'utf8'))
  } catch (error) {
    if (isMissing(error)) return undefined
    const reason = error instanceof SyntaxError ? 'it is not JSON' : messageOf(error)
    throw new UnreadableLoginsError(`the logins in ${path} cannot be read: ${reason}`, {
      cause: error,
    })
  }
  if (!isObject(config)) {
    throw new UnreadableLoginsError(`the logins in ${path} cannot be read: it is not a JSON object`)
  }
  return config
}

/** Entries are for a host, or for some of its repositories (containers-auth.json): the longest match counts. */
function findEntry(
  auths: JsonObject,
  host: string,
  repository: string,
  path: string,
): Login | undefined {
  const components = repository.split('/')
  const names = components.map((_, index) =>
    [host, ...components.slice(0, components.length - index)].join('/'),
  )
  // Logins stored by a credential helper have an empty entry here.
  const keys = [...names, host, `https://${host}`, `https://${host}/`, `http://${host}`]
  for (const key of keys) {
    const entry = Object.hasOwn(auths, key) ? auths[key] : undefined
    const found = isObject(entry) ? findInEntry(entry, key, path) : undefined
    if (found !== undefined) return found
  }
  return undefined
}

function findInEntry(entry: JsonObject, key: string, path: string): Login | undefined {
  const { identitytoken, registrytoken, auth, username, password } = entry
  if (typeof identitytoken === 'string' && identitytoken !== '') {
    return { kind: 'identity-token', token: identitytoken }
  }
  if (typeof registrytoken === 'string' && registrytoken !== '') {
    return { kind: 'token', token: registrytoken }
  }
  if (typeof auth === 'string' && auth !== '') {
    const text = Buffer.from(auth, 'base64').toString()
    const colon = text.indexOf(':')
    if (colon < 1) {
      throw new UnreadableLoginsError(
        `the login of ${key} in ${path} is not user:password in base64`,
      )
    }
    // Docker pads with NULs.
    const secret = text.slice(colon + 1).replace(/\0+$/, '')
    return { kind: 'password', username: text.slice(0, colon), password: secret }
  }
  if (typeof username === 'string' && typeof password === 'string' && username !== '') {
    return { kind: 'password', username, password }
  }
  return undefined
}

/** Docker's credential helper protocol: the host on standard input, JSON on standard output. */
async function askHelper(
  helper: string,
  host: string,
  environment: Environment,
): Promise<Login | undefined> {
  if (!HELPER_NAME.test(helper)) {
    throw new UnreadableLoginsError(
      `"${helper.slice(0, 80)}" is not the name of a credential helper`,
    )
  }
  const program = `docker-credential-${helper}`
  const { status, output } = await runHelper(program, host, environment)
  if (status !== 0) {
    if (/credentials not found/i.test(output)) return undefined
    throw new UnreadableLoginsError(
      `${program} failed: ${output.replace(/\s+/g, ' ').slice(0, 200)}`,
    )
  }
  const found = parseHelper(output)
  if (found === undefined) {
    throw new UnreadableLoginsError(`${program} did not print JSON with Username and Secret`)
  }
  const { username, secret } = found
  if (secret === '') return undefined
  return username === IDENTITY_TOKEN_USER
    ? { kind: 'identity-token', token: secret }
    : { kind: 'password', username, password: secret }
}

function runHelper(
  program: string,
  host: string,
  environment: Environment,
): Promise<{ status: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['get'], {
      env: { ...environment },
      stdio: ['pipe', 'pipe', 'ignore'],
      timeout: HELPER_MILLISECONDS_MAX,
    })
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
      if (output.length > HELPER_BYTES_MAX) child.kill()
    })
    child.on('error', (cause) => {
      const problem = spawnProblem(cause)
      reject(new UnreadableLoginsError(`${program} cannot be run: ${problem}`, { cause }))
    })
    child.on('close', (status) => resolve({ status, output }))
    // A helper that exits without reading its input is reported by its status.
    child.stdin.on('error', () => {})
    child.stdin.end(host)
  })
}

function parseHelper(output: string): { username: string; secret: string } | undefined {
  try {
    const answer: unknown = JSON.parse(output)
    if (!isObject(answer)) return undefined
    const { Username: username, Secret: secret } = answer
    return typeof username === 'string' && typeof secret === 'string'
      ? { username, secret }
      : undefined
  } catch {
    return undefined
  }
}

function spawnProblem(error: Error): string {
  if (isMissing(error)) return 'it is not installed'
  // Also when PATH has a folder that this user may not read, and no other folder has the program.
  if (errnoOf(error) === 'EACCES') return 'it is not installed, or this user may not run it'
  return error.message
}

function isMissing(error: unknown): boolean {
  return errnoOf(error) === 'ENOENT'
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
