import { ConfigError } from './config-error.ts'
import { SETTINGS } from './settings.ts'

/** The address and the port on which the server listens. */
export type Listen = { readonly host: string; readonly port: number }

const NAME = 'ROOKERY_LISTEN'

/** Reads this setting alone, for a command that must start fast. Throws ConfigError. */
export function readListen(environment: NodeJS.ProcessEnv): Listen {
  const text = environment[NAME] || (SETTINGS.find(({ name }) => name === NAME)?.default ?? '')
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || port > 65_535) {
    throw new ConfigError(
      `${NAME} must be address:port, such as 127.0.0.1:5000 or [::]:5000, not "${text}"`,
    )
  }
  return { host, port }
}
