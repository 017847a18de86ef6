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
    description:
      'Folder of the blobs, the embedded Postgres, the first password and the master key',
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
    name: 'ROOKERY_MASTER_KEY_FILE',
    default: '',
    description:
      'File of the key that encrypts secrets in Postgres, instead of `master-key` in the data folder; the same for all replicas',
  },
  {
    name: 'ROOKERY_TOKEN_SECONDS',
    default: '900',
    description: 'How long a token lives that a client gets for its credential',
  },
  {
    name: 'ROOKERY_OIDC_ALLOW_NETWORKS',
    default: '',
    description:
      'Internal addresses or networks, separated by commas, where issuers of identity tokens may be',
  },
  {
    name: 'ROOKERY_WEBHOOK_ALLOW_NETWORKS',
    default: '',
    description:
      'Internal addresses or networks, separated by commas, where webhooks may be sent, also by http',
  },
  {
    name: 'ROOKERY_FEED_CLIENTS_PER_ADDRESS',
    default: '100',
    description: 'How many clients of one address may wait for events at once, for each process',
  },
  {
    name: 'ROOKERY_EVENT_DAYS',
    default: '30',
    description: 'How long events and the log of their deliveries are kept',
  },
  {
    name: 'ROOKERY_AUDIT_DAYS',
    default: '365',
    description: 'How long entries of the audit log are kept',
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
    name: 'ROOKERY_S3_BUCKET',
    default: '',
    description:
      'Bucket for the blobs, instead of files; the AWS SDK finds the credentials, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
  },
  {
    name: 'ROOKERY_S3_PREFIX',
    default: '',
    description: 'Begins the name of every object, such as `registry/`',
  },
  {
    name: 'ROOKERY_S3_ENDPOINT',
    default: '',
    description: 'Where the object store is, when it is not AWS: `https://s3.example.org`',
  },
  {
    name: 'ROOKERY_S3_REGION',
    default: '',
    description: 'Region; otherwise AWS_REGION says it, or it is `us-east-1` for an endpoint',
  },
  {
    name: 'ROOKERY_S3_STYLE',
    default: '',
    description:
      '`path` (`endpoint/bucket`, what an endpoint gets) or `virtual-host` (`bucket.endpoint`, what AWS gets)',
  },
  {
    name: 'ROOKERY_S3_CHECKSUMS',
    default: 'when_required',
    description: '`when_supported` adds CRC checksums to each object, which not every server knows',
  },
  {
    name: 'ROOKERY_S3_REDIRECT',
    default: 'off',
    description: '`on`: clients read blobs from the object store itself, by a link of 15 minutes',
  },
  {
    name: 'ROOKERY_S3_PUBLIC_ENDPOINT',
    default: '',
    description: 'How clients reach the object store for that, when not as the registry does',
  },
  {
    name: 'ROOKERY_S3_TIMEOUT_SECONDS',
    default: '60',
    description: 'Longest that one call to the object store may take, its tries together',
  },
  {
    name: 'ROOKERY_GC_GRACE_SECONDS',
    default: '86400',
    description: 'A blob that no manifest names goes when nobody touched it for so long',
  },
  {
    name: 'ROOKERY_GC_INTERVAL_SECONDS',
    default: '60',
    description: 'How often garbage is looked for',
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
  {
    name: 'ROOKERY_TOKEN',
    default: '',
    description:
      'Token with which `rookery push`, `inspect` and other commands that ask a registry log in; the server leaves it alone',
  },
] as const satisfies readonly Setting[]
