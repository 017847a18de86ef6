import { BlockList, isIP } from 'node:net'

/** Everything that can be set, checked. */
export type Config = {
  readonly listen: { readonly host: string; readonly port: number }
  readonly dataFolder: string
  /** Undefined: the embedded Postgres. */
  readonly databaseUrl: string | undefined
  readonly databaseConnectionsMax: number
  readonly adminPassword: string | undefined
  /** Without a slash at the end; undefined: the address that it listens on. */
  readonly publicUrl: string | undefined
  readonly trustedProxies: BlockList
  readonly defaultVisibility: 'public' | 'private'
  readonly blobBytesMax: number
  readonly uploadLifetimeSeconds: number
  readonly drainSeconds: number
  readonly logLevel: string
}

export type Setting = {
  readonly name: string
  readonly default: string
  readonly description: string
}

/** Every environment variable there is; a test compares the README's table with it. */
export const SETTINGS = [
  {
    name: 'ROOKERY_LISTEN',
    default: '127.0.0.1:5000',
    description: 'Address and port to listen on; port 0 takes a free one',
  },
  {
    name: 'ROOKERY_DATA_DIR',
    default: './data',
    description: 'Folder of the blobs, the embedded Postgres and the first password',
  },
  {
    name: 'ROOKERY_DATABASE_URL',
    default: '',
    description: 'Your Postgres (14 or newer) instead of the embedded one: `postgres://…`',
  },
  {
    name: 'ROOKERY_DATABASE_CONNECTIONS',
    default: '12',
    description: 'Most connections to Postgres that one process opens',
  },
  {
    name: 'ROOKERY_ADMIN_PASSWORD',
    default: '',
    description: 'Password of the user `admin`, instead of the one generated on first start',
  },
  {
    name: 'ROOKERY_PUBLIC_URL',
    default: '',
    description: 'How clients reach the registry, when that is not the address it listens on',
  },
  {
    name: 'ROOKERY_TRUSTED_PROXIES',
    default: '',
    description: 'Addresses or networks, separated by commas, whose X-Forwarded-For is believed',
  },
  {
    name: 'ROOKERY_DEFAULT_VISIBILITY',
    default: 'public',
    description: 'What a new repository is: `public` (anybody may pull) or `private`',
  },
  {
    name: 'ROOKERY_BLOB_BYTES_MAX',
    default: '34359738368',
    description: 'Size in bytes of the largest blob that is taken',
  },
  {
    name: 'ROOKERY_UPLOAD_LIFETIME_SECONDS',
    default: '86400',
    description: 'An upload to which nothing is added for so long is forgotten',
  },
  {
    name: 'ROOKERY_DRAIN_SECONDS',
    default: '30',
    description: 'How long running requests may take to end after SIGTERM',
  },
  {
    name: 'ROOKERY_LOG_LEVEL',
    default: 'info',
    description: '`debug` (every request), `info` (changes), `warn`, `error` or `silent`',
  },
] as const satisfies readonly Setting[]

type Name = (typeof SETTINGS)[number]['name']

/** What is wrong with the environment, in one line. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

const PREFIX = 'ROOKERY_'
const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent']

/** Reads and checks the environment; the only place that does. Throws ConfigError. */
export function parseConfig(environment: NodeJS.ProcessEnv): Config {
  refuseUnknown(environment)
  // An empty variable is one that was not set: many tools cannot unset.
  const text = (name: Name): string =>
    environment[name] || (SETTINGS.find((setting) => setting.name === name)?.default ?? '')
  const optional = (name: Name): string | undefined => text(name) || undefined
  const number = (name: Name, min: number, max: number): number => {
    const value = Number(text(name))
    if (!/^\d+$/.test(text(name)) || value < min || value > max) {
      throw new ConfigError(
        `${name} must be a whole number from ${min} to ${max}, not "${text(name)}"`,
      )
    }
    return value
  }
  const oneOf = <T extends string>(name: Name, values: readonly T[]): T => {
    const value = values.find((candidate) => candidate === text(name))
    if (value === undefined) {
      throw new ConfigError(`${name} must be ${values.join(' or ')}, not "${text(name)}"`)
    }
    return value
  }
  return {
    listen: parseListen(text('ROOKERY_LISTEN')),
    dataFolder: text('ROOKERY_DATA_DIR'),
    databaseUrl: parseDatabaseUrl(optional('ROOKERY_DATABASE_URL')),
    databaseConnectionsMax: number('ROOKERY_DATABASE_CONNECTIONS', 2, 1000),
    adminPassword: optional('ROOKERY_ADMIN_PASSWORD'),
    publicUrl: parsePublicUrl(optional('ROOKERY_PUBLIC_URL')),
    trustedProxies: parseNetworks(text('ROOKERY_TRUSTED_PROXIES')),
    defaultVisibility: oneOf('ROOKERY_DEFAULT_VISIBILITY', ['public', 'private']),
    blobBytesMax: number('ROOKERY_BLOB_BYTES_MAX', 1, Number.MAX_SAFE_INTEGER),
    uploadLifetimeSeconds: number('ROOKERY_UPLOAD_LIFETIME_SECONDS', 1, 365 * 86_400),
    drainSeconds: number('ROOKERY_DRAIN_SECONDS', 0, 3600),
    logLevel: oneOf('ROOKERY_LOG_LEVEL', LOG_LEVELS),
  }
}

function refuseUnknown(environment: NodeJS.ProcessEnv): void {
  const known: ReadonlySet<string> = new Set(SETTINGS.map(({ name }) => name))
  const unknown = Object.keys(environment).find(
    (name) => name.startsWith(PREFIX) && !known.has(name),
  )
  if (unknown !== undefined) {
    throw new ConfigError(
      `${unknown} is not a setting; those that are: ${[...known].sort().join(', ')}`,
    )
  }
}

function parseListen(text: string): Config['listen'] {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || port > 65_535) {
    throw new ConfigError(
      `ROOKERY_LISTEN must be address:port, such as 127.0.0.1:5000 or [::]:5000, not "${text}"`,
    )
  }
  return { host, port }
}

function parseDatabaseUrl(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  // The value may hold a password, so the message must not.
  if (!/^postgres(?:ql)?:\/\//.test(text) || !URL.canParse(text.replace('///', '//localhost/'))) {
    throw new ConfigError(
      'ROOKERY_DATABASE_URL must be like postgres://user:password@host:5432/database',
    )
  }
  return text
}

function parsePublicUrl(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const url = URL.canParse(text) ? new URL(text) : undefined
  const right =
    url !== undefined &&
    ['http:', 'https:'].includes(url.protocol) &&
    url.pathname === '/' &&
    url.search === '' &&
    url.username === ''
  if (!right) {
    throw new ConfigError(
      `ROOKERY_PUBLIC_URL must be like https://registry.example.org, without a path, not "${text}"`,
    )
  }
  return url.origin
}

function parseNetworks(text: string): BlockList {
  const networks = new BlockList()
  for (const entry of text.split(',').map((part) => part.trim())) {
    if (entry === '') continue
    const [address = '', bits] = entry.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    const bitsMax = family === 'ipv6' ? 128 : 32
    const prefix = bits === undefined ? bitsMax : Number(bits)
    if (isIP(address) === 0 || !Number.isInteger(prefix) || prefix < 0 || prefix > bitsMax) {
      throw new ConfigError(
        `ROOKERY_TRUSTED_PROXIES must be addresses or networks such as 10.0.0.0/8, not "${entry}"`,
      )
    }
    networks.addSubnet(address, prefix, family)
  }
  return networks
}
