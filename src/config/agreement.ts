import { ConfigError, parseConfig, type SharedSettings } from './config.ts'
import { SETTINGS, type Setting } from './settings.ts'

const SHARED: readonly Setting[] = SETTINGS.filter((setting) => 'shared' in setting)
const AGREED = SHARED.filter(({ shared }) => shared === 'agreed')
const OF_STORE = /^ROOKERY_S3_/

/** The settings of a command that has a store of its own choice, as a copy between stores has. */
export type AgreeOptions = { readonly choosesStore?: boolean }

/**
 * Returns the environment of a command with the settings that the server of the registry left. Throws ConfigError when
 * the environment contradicts them.
 */
export function agreeWithServer(
  environment: NodeJS.ProcessEnv,
  server: SharedSettings,
  { choosesStore = false }: AgreeOptions = {},
): NodeJS.ProcessEnv {
  const setsStore = SHARED.some(({ name }) => OF_STORE.test(name) && environment[name])
  const agreed = { ...environment }
  for (const { name, shared } of SHARED) {
    const value = server[name]
    if (OF_STORE.test(name) && choosesStore && setsStore) continue
    if (!environment[name]) agreed[name] = value
    else if (shared === 'agreed' && !isSame(name, environment[name], value)) {
      throw contradiction(name, environment[name], value)
    }
  }
  return agreed
}

/** Lists the settings that a server must share with its replicas and whose values differ. */
export function listDifferences(one: SharedSettings, other: SharedSettings): string[] {
  return AGREED.map(({ name }) => name).filter((name) => !isSame(name, one[name], other[name]))
}

/** Two texts may mean the same, such as URLs with and without a slash at the end. */
function isSame(name: string, one: string | undefined, other: string | undefined): boolean {
  return one === other || meaningOf(name, one) === meaningOf(name, other)
}

function meaningOf(name: string, value: string | undefined): string {
  const bucket = OF_STORE.test(name) ? { ROOKERY_S3_BUCKET: 'any' } : {}
  const { shared: _, ...config } = parseConfig({ ...bucket, [name]: value })
  return JSON.stringify(config)
}

function contradiction(name: string, here: string, server: string | undefined): ConfigError {
  const there = server === undefined ? 'without it' : `with "${server}"`
  return new ConfigError(
    `${name} is "${here}" here, and the server of this registry was started ${there}: leave it out to use the server's, or start the server with the new value`,
  )
}
