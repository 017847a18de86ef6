export type Setting = {
  readonly name: string
  readonly default: string
  readonly description: string
  /** Its value is a secret: `NAME_FILE` may name a file that has it. */
  readonly isSecret?: true
  /**
   * Commands need the same value as the server, which leaves its own in the database. `agreed`: another value is an
   * error. `default`: a command may have another one.
   */
  readonly shared?: 'agreed' | 'default'
}

/** Every setting, as an environment variable. A test compares the table of docs/settings.md with this one. */
export const SETTINGS = [
  {
    name: 'ROOKERY_LISTEN',
    default: '127.0.0.1:5000',
    description: 'Address and port to listen on; port 0 takes a free port',
  },
  {
    name: 'ROOKERY_DATA_DIR',
    default: './data',
    description:
      'Folder of the blobs, the embedded Postgres, the admin password and the master key',
  },
  {
    name: 'ROOKERY_DATABASE_URL',
    default: '',
    isSecret: true,
    description: 'A Postgres (14 or newer) in place of the embedded one: `postgres://…`',
  },
  {
    name: 'ROOKERY_WORKERS',
    default: '1',
    description:
      'Processes that answer requests, or `auto`: as many as the cores that the server may use, at most 8. With more than 1, SIGHUP replaces them one after the other',
  },
  {
    name: 'ROOKERY_DATABASE_CONNECTIONS',
    default: '12',
    description:
      'Maximum connections to Postgres of one server, at least 2 for each of its processes; lists and searches use 1 or 2 more in each',
  },
  {
    name: 'ROOKERY_DATABASE_WAIT_SECONDS',
    default: '60',
    description:
      'Time for which a start waits for the Postgres of `ROOKERY_DATABASE_URL` when it does not answer yet',
  },
  {
    name: 'ROOKERY_ADMIN_PASSWORD',
    default: '',
    isSecret: true,
    description:
      'Password of the user `admin`, at least 16 characters, in place of the one generated at the first start',
  },
  {
    name: 'ROOKERY_PUBLIC_URL',
    default: '',
    shared: 'agreed',
    description: 'URL at which clients reach the registry, when it differs from the listen address',
  },
  {
    name: 'ROOKERY_MASTER_KEY_FILE',
    default: '',
    shared: 'default',
    description:
      'File of the key that encrypts secrets in Postgres, in place of `master-key` in the data folder; all replicas need the same key',
  },
  {
    name: 'ROOKERY_TOKEN_SECONDS',
    default: '900',
    shared: 'default',
    description: 'Lifetime of the access tokens that clients get for a credential',
  },
  {
    name: 'ROOKERY_OIDC_ALLOW_NETWORKS',
    default: '',
    shared: 'agreed',
    description:
      'Internal addresses or networks, separated by commas, in which issuers of identity tokens may be',
  },
  {
    name: 'ROOKERY_WEBHOOK_ALLOW_NETWORKS',
    default: '',
    shared: 'agreed',
    description:
      'Internal addresses or networks, separated by commas, to which webhooks of all owners may be sent, also over http; only administrators read the responses and send bodies of their own',
  },
  {
    name: 'ROOKERY_WEBHOOK_AUDIENCES',
    default: '',
    shared: 'agreed',
    description:
      'Audiences, or patterns with *, separated by commas, that webhooks of other owners than administrators may name in identity tokens',
  },
  {
    name: 'ROOKERY_OPAM_URL',
    default: '',
    description:
      'URL of an archive of opam-repository, such as `https://opam.ocaml.org/index.tar.gz`, which the server imports every six hours to know the packages in vendored sources',
  },
  {
    name: 'ROOKERY_OPAM_ALLOW_NETWORKS',
    default: '',
    shared: 'agreed',
    description:
      'Internal addresses or networks, separated by commas, in which the server of such an archive may be, also over http',
  },
  {
    name: 'ROOKERY_FEED_CLIENTS_PER_ADDRESS',
    default: '100',
    description:
      'Maximum clients of one address that wait for events at the same time, for each server',
  },
  {
    name: 'ROOKERY_CONNECTIONS_MAX',
    default: '',
    description:
      'Maximum open connections of one server; by default as many as its limit of open files allows, and at most 20000',
  },
  {
    name: 'ROOKERY_CONNECTIONS_PER_ADDRESS',
    default: '1000',
    description:
      'Maximum open connections of one address (IPv6: one /64), besides its clients of the feed and its hosts that wait, and never more than half of all; behind a trusted proxy, open requests of one client',
  },
  {
    name: 'ROOKERY_SLOW_CLIENT_SECONDS',
    default: '30',
    description:
      'Time after which a client that sends a body or reads a response with less than 1 KiB a second is cut off',
  },
  {
    name: 'ROOKERY_EVENT_DAYS',
    default: '30',
    description: 'Days for which events and their delivery log are kept',
  },
  {
    name: 'ROOKERY_AUDIT_DAYS',
    default: '365',
    description: 'Days for which entries of the audit log are kept',
  },
  {
    name: 'ROOKERY_TRUSTED_PROXIES',
    default: '',
    description:
      'Addresses or networks of proxies, separated by commas, whose X-Forwarded-For, -Proto, -Host and -Port, or else Forwarded, are trusted',
  },
  {
    name: 'ROOKERY_DEFAULT_VISIBILITY',
    default: 'public',
    shared: 'agreed',
    description: 'Visibility of new repositories: `public` (anyone may pull) or `private`',
  },
  {
    name: 'ROOKERY_HOST_ENROLMENT',
    default: 'code',
    description:
      'How hosts enrol: `code` (with a one-time code) or `approve` (also without one, then somebody approves their key)',
  },
  {
    name: 'ROOKERY_UNWRAP',
    default: 'on',
    description:
      'Find unikernels in the layers of container images, such as `docker push` sends: `on` or `off`',
  },
  {
    name: 'ROOKERY_BUILDER_WEB',
    default: 'off',
    description:
      '`on`: builder, albatross and mollymawk find the paths of builder-web here: `/upload`, `/hash`, `/job/…`, `/compare/…` and lists',
  },
  {
    name: 'ROOKERY_BUILDER_WEB_JOBS',
    default: '',
    description: 'Repositories of jobs whose names differ, separated by commas: `site=web/site`',
  },
  {
    name: 'ROOKERY_BUILDER_WEB_LATEST',
    default: '',
    description:
      'Tag whose kernel is the latest build of a job, such as `live`; by default the build that began last',
  },
  {
    name: 'ROOKERY_BLOB_BYTES_MAX',
    default: '34359738368',
    description: 'Maximum size of a blob in bytes',
  },
  {
    name: 'ROOKERY_UPLOAD_LIFETIME_SECONDS',
    default: '86400',
    description: 'Time after its last chunk at which an unfinished upload is deleted',
  },
  {
    name: 'ROOKERY_S3_BUCKET',
    default: '',
    shared: 'agreed',
    description:
      'Bucket for the blobs, in place of files; the AWS SDK finds the credentials, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
  },
  {
    name: 'ROOKERY_S3_PREFIX',
    default: '',
    shared: 'agreed',
    description: 'Prefix of every object name, such as `registry/`',
  },
  {
    name: 'ROOKERY_S3_ENDPOINT',
    default: '',
    shared: 'agreed',
    description: 'URL of an object store other than AWS: `https://s3.example.org`',
  },
  {
    name: 'ROOKERY_S3_REGION',
    default: '',
    shared: 'default',
    description: 'Region; by default AWS_REGION, or `us-east-1` with an endpoint',
  },
  {
    name: 'ROOKERY_S3_STYLE',
    default: '',
    shared: 'default',
    description:
      '`path` (`endpoint/bucket`, the default with an endpoint) or `virtual-host` (`bucket.endpoint`, the default with AWS)',
  },
  {
    name: 'ROOKERY_S3_CHECKSUMS',
    default: 'when_required',
    shared: 'default',
    description:
      '`when_supported` adds CRC checksums to each object, which some servers do not support',
  },
  {
    name: 'ROOKERY_S3_REDIRECT',
    default: 'off',
    description:
      '`on`: clients download blobs directly from the object store, by links that are valid for 15 minutes',
  },
  {
    name: 'ROOKERY_S3_PUBLIC_ENDPOINT',
    default: '',
    description:
      'URL at which clients reach the object store for redirects, when it differs from the endpoint',
  },
  {
    name: 'ROOKERY_S3_TIMEOUT_SECONDS',
    default: '60',
    description: 'Maximum time of one call to the object store, with its retries',
  },
  {
    name: 'ROOKERY_DISK_RESERVE_BYTES',
    default: '268435456',
    description:
      'Free bytes that pushes leave on a disk with blobs or the embedded Postgres: a push that needs more is 503; 0 keeps nothing free',
  },
  {
    name: 'ROOKERY_READ_ONLY',
    default: 'off',
    description:
      '`on`: serve pulls, lists and pages, and refuse every write with 405; garbage collection and rollouts rest',
  },
  {
    name: 'ROOKERY_GC_GRACE_SECONDS',
    default: '86400',
    shared: 'default',
    description: 'Age since the last use at which an unreferenced blob is deleted',
  },
  {
    name: 'ROOKERY_GC_INTERVAL_SECONDS',
    default: '60',
    description: 'Time between two garbage collections',
  },
  {
    name: 'ROOKERY_DRAIN_SECONDS',
    default: '30',
    description: 'Time for running requests to end after SIGTERM',
  },
  {
    name: 'ROOKERY_DRAIN_DELAY_SECONDS',
    default: '0',
    description:
      'Time after SIGTERM for which the server answers as before, apart from `/readyz`, so that load balancers choose another one',
  },
  {
    name: 'ROOKERY_LOG_LEVEL',
    default: 'info',
    description:
      '`debug` (every request), `info` (changes), `warn`, `error` or `silent`; on a terminal the default is `warn`',
  },
  {
    name: 'ROOKERY_TOKEN',
    default: '',
    isSecret: true,
    description:
      'Access token for `rookery push`, `inspect` and other commands that call a registry; the server ignores it',
  },
] as const satisfies readonly Setting[]
