import { availableParallelism } from 'node:os'
import { resolve } from 'node:path'
import {
  findNetworkProblem,
  type NetworkList,
  NO_NETWORKS,
  parseNetworks,
} from '../networks/networks.ts'
import { type Glob, parseClaimGlob } from '../oci/glob.ts'
import { type BuilderWebConfig, parseBuilderWeb } from './builder-web.ts'
import { ConfigError } from './config-error.ts'
import {
  PASSWORD_CHARACTERS_MIN,
  S3_PART_BYTES,
  S3_PARTS_MAX,
  TOKEN_SECONDS_MAX,
} from './limits.ts'
import { type Listen, readListen } from './listen.ts'
import {
  readSecretSetting,
  SECRET_FILE_NAMES,
  type SecretName,
  secretFile,
} from './secret-files.ts'
import { isServiceLink } from './service-links.ts'
import { SETTINGS } from './settings.ts'

export { ConfigError } from './config-error.ts'
export { SETTINGS } from './settings.ts'

/** The settings, checked. */
export type Config = {
  readonly listen: Listen
  readonly dataFolder: string
  /** Undefined: the embedded Postgres. */
  readonly databaseUrl: string | undefined
  readonly databaseConnectionsMax: number
  /** Processes that answer requests. 1: the server is one process. */
  readonly workers: number
  /** For how long a server waits for a Postgres of the operator at its start. */
  readonly databaseWaitSeconds: number
  readonly adminPassword: string | undefined
  /** The file of `adminPassword`, when a file has it. */
  readonly adminPasswordFile: string | undefined
  /** Without a trailing slash; undefined: the address that the server listens on. */
  readonly publicUrl: string | undefined
  /** Undefined: `master-key` in the data folder. */
  readonly masterKeyFile: string | undefined
  readonly tokenSeconds: number
  readonly oidcAllowNetworks: readonly string[]
  readonly webhookAllowNetworks: readonly string[]
  /** The archive of an opam repository to import. */
  readonly opamUrl: string | undefined
  readonly opamAllowNetworks: readonly string[]
  readonly webhookAudiences: readonly Glob[]
  readonly feedClientsPerAddress: number
  /** Undefined: follows from the limit of file descriptors. */
  readonly connectionsMax: number | undefined
  readonly connectionsPerAddress: number
  readonly slowClientSeconds: number
  readonly eventDays: number
  readonly auditDays: number
  readonly trustedProxies: NetworkList
  readonly defaultVisibility: 'public' | 'private'
  /** `approve`: hosts may also enrol without a code, and wait until somebody approves their key. */
  readonly hostEnrolment: 'code' | 'approve'
  /** True: the kernels in the layers of container images are found. */
  readonly unwrapsContainers: boolean
  /** Undefined: the paths of builder-web are off. */
  readonly builderWeb: BuilderWebConfig | undefined
  readonly blobBytesMax: number
  readonly uploadLifetimeSeconds: number
  /** Undefined: blobs are files below the data folder. */
  readonly s3: S3Config | undefined
  /** Free bytes of the disk that pushes leave; 0: none. */
  readonly diskReserveBytes: number
  /** True: every write of a client is refused. */
  readonly readOnly: boolean
  readonly gcGraceSeconds: number
  readonly gcIntervalSeconds: number
  readonly drainSeconds: number
  readonly drainDelaySeconds: number
  readonly logLevel: string
  readonly shared: SharedSettings
}

/** The values of settings that commands share with the server, by name. A missing one has its default. */
export type SharedSettings = Readonly<Record<string, string>>

/** The bucket for blobs. */
export type S3Config = {
  readonly bucket: string
  /** Starts the name of every object. Empty, or with a trailing slash. */
  readonly prefix: string
  /** Undefined: AWS, in the region. */
  readonly endpoint: string | undefined
  /** Undefined: the AWS SDK finds it. */
  readonly region: string | undefined
  /** True: `endpoint/bucket/key`; false: `bucket.endpoint/key`. */
  readonly pathStyle: boolean
  /** `when_supported`: the SDK adds checksums that some servers do not know. */
  readonly checksums: 'when_required' | 'when_supported'
  /** True: clients download blobs from the object store, by signed links. */
  readonly redirect: boolean
  /** Where clients reach the object store, when the registry reaches it elsewhere. */
  readonly publicEndpoint: string | undefined
  /** Longest time of one call, with its retries. */
  readonly timeoutSeconds: number
}

type SettingName = (typeof SETTINGS)[number]['name']

const PREFIX = 'ROOKERY_'
const S3_NAMES = SETTINGS.map(({ name }) => name).filter((name) => name.startsWith('ROOKERY_S3_'))
const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent']

/** Reads the settings from the environment, and checks them. Nothing else reads settings. Throws ConfigError. */
export function parseConfig(environment: NodeJS.ProcessEnv): Config {
  assertAllKnown(environment)
  // An empty variable counts as unset, because many tools cannot unset one.
  const text = (name: SettingName): string =>
    environment[name] || (SETTINGS.find((setting) => setting.name === name)?.default ?? '')
  const optional = (name: SettingName): string | undefined => text(name) || undefined
  const secret = (name: SecretName) => readSecretSetting(environment, name)
  const number = (name: SettingName, min: number, max: number): number => {
    const value = Number(text(name))
    if (!/^\d+$/.test(text(name)) || value < min || value > max) {
      throw new ConfigError(
        `${name} must be a whole number from ${min} to ${max}, not "${text(name)}"`,
      )
    }
    return value
  }
  const oneOf = <T extends string>(name: SettingName, values: readonly T[]): T => {
    const value = values.find((candidate) => candidate === text(name))
    if (value === undefined) {
      throw new ConfigError(`${name} must be ${values.join(' or ')}, not "${text(name)}"`)
    }
    return value
  }
  return assertBlobsFitS3({
    listen: readListen(environment),
    dataFolder: text('ROOKERY_DATA_DIR'),
    databaseUrl: parseDatabaseUrl(secret('ROOKERY_DATABASE_URL')),
    databaseConnectionsMax: number('ROOKERY_DATABASE_CONNECTIONS', 2, 1000),
    workers: parseWorkers(text('ROOKERY_WORKERS')),
    databaseWaitSeconds: number('ROOKERY_DATABASE_WAIT_SECONDS', 0, 86_400),
    adminPassword: parsePassword('ROOKERY_ADMIN_PASSWORD', secret('ROOKERY_ADMIN_PASSWORD')),
    adminPasswordFile: secretFile(environment, 'ROOKERY_ADMIN_PASSWORD'),
    publicUrl: parsePublicUrl(optional('ROOKERY_PUBLIC_URL')),
    masterKeyFile: optional('ROOKERY_MASTER_KEY_FILE'),
    tokenSeconds: number('ROOKERY_TOKEN_SECONDS', 10, TOKEN_SECONDS_MAX),
    oidcAllowNetworks: parseNetworkList(
      'ROOKERY_OIDC_ALLOW_NETWORKS',
      text('ROOKERY_OIDC_ALLOW_NETWORKS'),
    ),
    webhookAllowNetworks: parseNetworkList(
      'ROOKERY_WEBHOOK_ALLOW_NETWORKS',
      text('ROOKERY_WEBHOOK_ALLOW_NETWORKS'),
    ),
    webhookAudiences: parseAudiences(text('ROOKERY_WEBHOOK_AUDIENCES')),
    opamUrl: parseArchiveUrl(optional('ROOKERY_OPAM_URL')),
    opamAllowNetworks: parseNetworkList(
      'ROOKERY_OPAM_ALLOW_NETWORKS',
      text('ROOKERY_OPAM_ALLOW_NETWORKS'),
    ),
    feedClientsPerAddress: number('ROOKERY_FEED_CLIENTS_PER_ADDRESS', 1, 10_000),
    connectionsMax:
      optional('ROOKERY_CONNECTIONS_MAX') === undefined
        ? undefined
        : number('ROOKERY_CONNECTIONS_MAX', 10, 1_000_000),
    connectionsPerAddress: number('ROOKERY_CONNECTIONS_PER_ADDRESS', 1, 1_000_000),
    slowClientSeconds: number('ROOKERY_SLOW_CLIENT_SECONDS', 1, 3600),
    eventDays: number('ROOKERY_EVENT_DAYS', 1, 3650),
    auditDays: number('ROOKERY_AUDIT_DAYS', 1, 36_500),
    trustedProxies: parseProxies(text('ROOKERY_TRUSTED_PROXIES')),
    defaultVisibility: oneOf('ROOKERY_DEFAULT_VISIBILITY', ['public', 'private']),
    hostEnrolment: oneOf('ROOKERY_HOST_ENROLMENT', ['code', 'approve']),
    unwrapsContainers: oneOf('ROOKERY_UNWRAP', ['on', 'off']) === 'on',
    builderWeb: parseBuilderWeb({
      isOn: oneOf('ROOKERY_BUILDER_WEB', ['off', 'on']) === 'on',
      jobs: text('ROOKERY_BUILDER_WEB_JOBS'),
      latest: optional('ROOKERY_BUILDER_WEB_LATEST'),
    }),
    blobBytesMax: number('ROOKERY_BLOB_BYTES_MAX', 1, Number.MAX_SAFE_INTEGER),
    uploadLifetimeSeconds: number('ROOKERY_UPLOAD_LIFETIME_SECONDS', 1, 365 * 86_400),
    s3: parseS3(
      optional('ROOKERY_S3_BUCKET'),
      {
        prefix: text('ROOKERY_S3_PREFIX'),
        endpoint: parseEndpoint('ROOKERY_S3_ENDPOINT', optional('ROOKERY_S3_ENDPOINT')),
        region: optional('ROOKERY_S3_REGION'),
        style: oneOf('ROOKERY_S3_STYLE', ['', 'path', 'virtual-host']),
        checksums: oneOf('ROOKERY_S3_CHECKSUMS', ['when_required', 'when_supported']),
        redirect: oneOf('ROOKERY_S3_REDIRECT', ['off', 'on']) === 'on',
        publicEndpoint: parseEndpoint(
          'ROOKERY_S3_PUBLIC_ENDPOINT',
          optional('ROOKERY_S3_PUBLIC_ENDPOINT'),
        ),
        timeoutSeconds: number('ROOKERY_S3_TIMEOUT_SECONDS', 1, 3600),
      },
      environment,
    ),
    diskReserveBytes: number('ROOKERY_DISK_RESERVE_BYTES', 0, Number.MAX_SAFE_INTEGER),
    readOnly: oneOf('ROOKERY_READ_ONLY', ['off', 'on']) === 'on',
    gcGraceSeconds: number('ROOKERY_GC_GRACE_SECONDS', 0, 365 * 86_400),
    gcIntervalSeconds: number('ROOKERY_GC_INTERVAL_SECONDS', 1, 86_400),
    drainSeconds: number('ROOKERY_DRAIN_SECONDS', 0, 3600),
    drainDelaySeconds: number('ROOKERY_DRAIN_DELAY_SECONDS', 0, 600),
    logLevel: oneOf('ROOKERY_LOG_LEVEL', LOG_LEVELS),
    shared: sharedSettings(environment),
  })
}

/** More processes than this wait for Postgres and the disk. */
const WORKERS_AUTO_MAX = 8
const WORKERS_MAX = 64

function parseWorkers(text: string): number {
  // The cores that this process may use.
  if (text === 'auto') return Math.min(availableParallelism(), WORKERS_AUTO_MAX)
  if (/^\d{1,2}$/.test(text) && Number(text) >= 1 && Number(text) <= WORKERS_MAX)
    return Number(text)
  throw new ConfigError(
    `ROOKERY_WORKERS must be auto, or a whole number from 1 to ${WORKERS_MAX}, not "${text}"`,
  )
}

function sharedSettings(environment: NodeJS.ProcessEnv): SharedSettings {
  const given = SETTINGS.flatMap((setting) => {
    const value = environment[setting.name]
    if (!('shared' in setting) || !value) return []
    // Commands run in other folders.
    return [[setting.name, setting.name.endsWith('_FILE') ? resolve(value) : value] as const]
  })
  return Object.fromEntries(given)
}

function assertAllKnown(environment: NodeJS.ProcessEnv): void {
  const names: ReadonlySet<string> = new Set([
    ...SETTINGS.map(({ name }) => name),
    ...SECRET_FILE_NAMES,
  ])
  const unknown = Object.keys(environment).find(
    (name) =>
      name.startsWith(PREFIX) && !names.has(name) && !isServiceLink(name, environment[name]),
  )
  if (unknown !== undefined) {
    throw new ConfigError(
      `${unknown} is not a setting; the settings are: ${[...names].sort().join(', ')}`,
    )
  }
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

function parsePassword(name: SettingName, text: string | undefined): string | undefined {
  // The message must not repeat the value.
  if (text !== undefined && text.length < PASSWORD_CHARACTERS_MIN) {
    throw new ConfigError(
      `${name} must have at least ${PASSWORD_CHARACTERS_MIN} characters, and has ${text.length}; openssl rand -base64 24 prints one`,
    )
  }
  return text
}

function parsePublicUrl(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isValid =
    url !== undefined &&
    ['http:', 'https:'].includes(url.protocol) &&
    url.pathname === '/' &&
    url.search === '' &&
    url.username === ''
  if (!isValid) {
    throw new ConfigError(
      `ROOKERY_PUBLIC_URL must be like https://registry.example.org, without a path, not "${text}"`,
    )
  }
  return url.origin
}

function parseArchiveUrl(text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const url = URL.canParse(text) ? new URL(text) : undefined
  // The URL is shown, so it has no place for a password.
  if (!url || !['http:', 'https:'].includes(url.protocol) || `${url.username}${url.password}`) {
    throw new ConfigError(
      'ROOKERY_OPAM_URL must be like https://opam.ocaml.org/index.tar.gz, without a user name and a password',
    )
  }
  return url.href
}

type S3Texts = Omit<S3Config, 'bucket' | 'pathStyle'> & { style: '' | 'path' | 'virtual-host' }

// Object stores other than AWS accept any region, as long as client and server use the same.
const REGION_OF_ENDPOINTS = 'us-east-1'
const BUCKET = /^[a-z0-9A-Z][a-z0-9A-Z._-]{1,254}$/

function parseS3(
  bucket: string | undefined,
  { style, ...texts }: S3Texts,
  environment: NodeJS.ProcessEnv,
): S3Config | undefined {
  if (bucket === undefined) {
    const name = S3_NAMES.find((candidate) => environment[candidate])
    if (name === undefined) return undefined
    throw new ConfigError(`${name} needs ROOKERY_S3_BUCKET: without it blobs are files`)
  }
  if (!BUCKET.test(bucket)) {
    throw new ConfigError(`ROOKERY_S3_BUCKET must be the name of a bucket, not "${bucket}"`)
  }
  const { prefix, endpoint } = texts
  if (!/^(?:[\w.-]+\/)*[\w.-]*$/.test(prefix)) {
    throw new ConfigError(`ROOKERY_S3_PREFIX must be like registry/, not "${prefix}"`)
  }
  const environmentRegion = environment.AWS_REGION || environment.AWS_DEFAULT_REGION
  const region = texts.region ?? (endpoint && !environmentRegion ? REGION_OF_ENDPOINTS : undefined)
  return {
    ...texts,
    bucket,
    prefix: prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`,
    region,
    pathStyle: style === '' ? endpoint !== undefined : style === 'path',
  }
}

function assertBlobsFitS3(config: Config): Config {
  if (config.s3 !== undefined && config.blobBytesMax > S3_PART_BYTES * S3_PARTS_MAX) {
    throw new ConfigError(
      `ROOKERY_BLOB_BYTES_MAX may be at most ${S3_PART_BYTES * S3_PARTS_MAX} with blobs on S3`,
    )
  }
  return config
}

function parseEndpoint(name: SettingName, text: string | undefined): string | undefined {
  if (text === undefined) return undefined
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.search) {
    throw new ConfigError(`${name} must be like https://s3.example.org, not "${text}"`)
  }
  return text.replace(/\/+$/, '')
}

function parseNetworkList(name: SettingName, text: string): string[] {
  const entries = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  const problem = findNetworkProblem(entries)
  if (problem !== undefined) throw new ConfigError(`${name}: ${problem}`)
  return entries
}

function parseAudiences(text: string): Glob[] {
  const entries = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  return entries.map((entry) => {
    try {
      return parseClaimGlob(entry)
    } catch (cause) {
      const problem = 'an audience has at most 255 characters'
      throw new ConfigError(`ROOKERY_WEBHOOK_AUDIENCES: ${problem}`, { cause })
    }
  })
}

function parseProxies(text: string): NetworkList {
  return parseNetworks(parseNetworkList('ROOKERY_TRUSTED_PROXIES', text)) ?? NO_NETWORKS
}
