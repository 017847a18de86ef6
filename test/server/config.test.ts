import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { agreeWithServer, listDifferences } from '../../src/config/agreement.ts'
import { ConfigError, parseConfig, SETTINGS } from '../../src/config/config.ts'
import { readSecretSetting, SECRET_SETTINGS } from '../../src/config/secret-files.ts'
import { ROOT } from '../house/tree.ts'

const SECRETS = SECRET_SETTINGS.map(({ name }) => name)
let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-secrets-'))
})
afterEach(() => rm(folder, { recursive: true }))

describe('secrets', () => {
  const VALUE = 'postgres://user:sixteen-letters-hunter2@host/db'

  async function fileOf(content: string): Promise<string> {
    await writeFile(join(folder, 'secret'), content)
    return join(folder, 'secret')
  }

  it('are all settings with a password, a token or a login', () => {
    const named = SETTINGS.map(({ name }) => name).filter((name) =>
      /(?:PASSWORD|TOKEN|SECRET|_KEY|DATABASE_URL)$/.test(name),
    )
    expect(SECRETS).toEqual(named)
    const document = readFileSync(join(ROOT, 'docs/settings.md'), 'utf8')
    for (const name of SECRETS) expect(document).toContain(`\`${name}_FILE\``)
  })

  describe.each(SECRETS)('%s', (name) => {
    const read = (environment: Record<string, string>) => readSecretSetting(environment, name)

    it.each(['', '\n', '\r\n'])('may be in a file that ends with %j', async (end) => {
      const environment = { [`${name}_FILE`]: await fileOf(VALUE + end) }
      expect(read(environment)).toBe(VALUE)
      expect(() => parseConfig(environment)).not.toThrow()
      expect(read({ ...environment, [name]: '' })).toBe(VALUE)
    })

    it.each([
      ['', 'is empty'],
      ['\n', 'is empty'],
      [`${VALUE}\n${VALUE}\n`, 'must have one line'],
      [VALUE.repeat(10_000), 'has \\d+ bytes; a secret has at most 65536'],
    ])('is refused in a file with other content', async (content, problem) => {
      const parse = async () => read({ [`${name}_FILE`]: await fileOf(content) })
      await expect(parse()).rejects.toThrow(new RegExp(`^${name}_FILE: [^\n]+ ${problem}[^\n]*$`))
      await expect(parse()).rejects.not.toThrow('hunter2')
    })

    it.each([
      ['missing', '(ENOENT)'],
      ['.', 'is no regular file'],
      ['secret/below', '(ENOTDIR)'],
    ])('is refused in the file %s', async (file, problem) => {
      await fileOf(VALUE)
      const parse = () => read({ [`${name}_FILE`]: join(folder, file) })
      expect(parse).toThrow(ConfigError)
      expect(parse).toThrow(problem)
    })

    it('is refused when both variables are set', async () => {
      const parse = async () => read({ [`${name}_FILE`]: await fileOf(VALUE), [name]: VALUE })
      await expect(parse()).rejects.toThrow(`${name} and ${name}_FILE exclude each other`)
    })
  })

  it('configure the server from files', async () => {
    const file = await fileOf(`${VALUE}\n`)
    const config = parseConfig({
      ROOKERY_DATABASE_URL_FILE: file,
      ROOKERY_ADMIN_PASSWORD_FILE: file,
    })
    expect(config).toMatchObject({
      databaseUrl: VALUE,
      adminPassword: VALUE,
      adminPasswordFile: file,
    })
  })
})

describe('settings that commands share with the server', () => {
  const SHARED = SETTINGS.filter((setting) => 'shared' in setting)
  const VALUES: Record<string, string> = {
    ROOKERY_PUBLIC_URL: 'https://r.example.org',
    ROOKERY_MASTER_KEY_FILE: '/run/secrets/master-key',
    ROOKERY_TOKEN_SECONDS: '60',
    ROOKERY_OIDC_ALLOW_NETWORKS: '10.0.0.0/8',
    ROOKERY_WEBHOOK_ALLOW_NETWORKS: '10.0.0.0/8',
    ROOKERY_WEBHOOK_AUDIENCES: 'builds',
    ROOKERY_OPAM_ALLOW_NETWORKS: '10.0.0.0/8',
    ROOKERY_DEFAULT_VISIBILITY: 'private',
    ROOKERY_S3_BUCKET: 'blobs',
    ROOKERY_S3_PREFIX: 'a/',
    ROOKERY_S3_ENDPOINT: 'https://s3.example.org',
    ROOKERY_S3_REGION: 'garage',
    ROOKERY_S3_STYLE: 'path',
    ROOKERY_S3_CHECKSUMS: 'when_supported',
    ROOKERY_GC_GRACE_SECONDS: '60',
  }
  const STORE = { ROOKERY_S3_BUCKET: 'blobs' }

  // Each new setting is one of a process, or shared.
  it('are all settings besides those of one process', () => {
    const shared = SHARED.map(({ name }) => name)
    expect(shared).toEqual(Object.keys(VALUES))
    const others = SETTINGS.map(({ name }) => name).filter(
      (name) => !shared.some((one) => one === name),
    )
    expect(others.map((name) => name.replace('ROOKERY_', ''))).toEqual([
      ...['LISTEN', 'DATA_DIR', 'DATABASE_URL', 'WORKERS', 'DATABASE_CONNECTIONS'],
      ...['DATABASE_WAIT_SECONDS'],
      ...['ADMIN_PASSWORD', 'OPAM_URL', 'FEED_CLIENTS_PER_ADDRESS', 'CONNECTIONS_MAX'],
      ...['CONNECTIONS_PER_ADDRESS', 'SLOW_CLIENT_SECONDS', 'EVENT_DAYS', 'AUDIT_DAYS'],
      ...[
        'TRUSTED_PROXIES',
        'HOST_ENROLMENT',
        'UNWRAP',
        'BUILDER_WEB',
        'BUILDER_WEB_JOBS',
        'BUILDER_WEB_LATEST',
      ],
      ...['BLOB_BYTES_MAX', 'UPLOAD_LIFETIME_SECONDS', 'S3_REDIRECT'],
      ...['S3_PUBLIC_ENDPOINT', 'S3_TIMEOUT_SECONDS', 'DISK_RESERVE_BYTES', 'READ_ONLY'],
      ...['GC_INTERVAL_SECONDS', 'DRAIN_SECONDS', 'DRAIN_DELAY_SECONDS', 'LOG_LEVEL', 'TOKEN'],
    ])
  })

  it.each(Object.entries(VALUES))('%s is the value that the server left', (name, value) => {
    const left = parseConfig({ ...STORE, [name]: value }).shared
    expect(left[name]).toBe(value)
    expect(agreeWithServer({}, left)[name]).toBe(value)
    expect(agreeWithServer({ [name]: value }, left)[name]).toBe(value)
  })

  const AGREED = SHARED.filter((setting) => setting.shared === 'agreed').map(({ name }) => name)
  it.each(AGREED)('%s that contradicts the server is refused', (name) => {
    const value = VALUES[name] ?? ''
    const others: Record<string, string> = {
      ROOKERY_PUBLIC_URL: 'https://other.example.org',
      ROOKERY_OIDC_ALLOW_NETWORKS: '192.168.0.0/16',
      ROOKERY_WEBHOOK_ALLOW_NETWORKS: '192.168.0.0/16',
      ROOKERY_OPAM_ALLOW_NETWORKS: '192.168.0.0/16',
      ROOKERY_DEFAULT_VISIBILITY: 'public',
      ROOKERY_S3_ENDPOINT: 'https://other.example.org',
    }
    const other = others[name] ?? 'other'
    for (const left of [{ [name]: other }, {}]) {
      const agree = () => agreeWithServer({ [name]: value }, left)
      expect(agree).toThrow(ConfigError)
      expect(agree).toThrow(new RegExp(`^${name} is "[^\n]+" here, and the server [^\n]+$`))
    }
    expect(listDifferences({ [name]: value }, { [name]: other })).toEqual([name])
  })

  it('are the same when they mean the same', () => {
    const left = { ROOKERY_PUBLIC_URL: 'https://r.example.org' }
    const here = {
      ROOKERY_PUBLIC_URL: 'https://r.example.org/',
      ROOKERY_DEFAULT_VISIBILITY: 'public',
    }
    expect(() => agreeWithServer(here, left)).not.toThrow()
    expect(listDifferences(here, left)).toEqual([])
  })

  it('of the store are free for a copy between stores', () => {
    const copy = { choosesStore: true }
    expect(agreeWithServer({ ROOKERY_S3_BUCKET: 'new' }, {}, copy)).toMatchObject({
      ROOKERY_S3_BUCKET: 'new',
    })
    expect(agreeWithServer({}, STORE, copy)).toMatchObject(STORE)
  })
})

describe('the settings', () => {
  it('are in the table of docs/settings.md, with their defaults and descriptions', () => {
    const document = readFileSync(join(ROOT, 'docs/settings.md'), 'utf8')
    const rows = document.split('\n').filter((line) => line.startsWith('| `ROOKERY_'))
    const expected = SETTINGS.map(
      (setting) =>
        `| \`${setting.name}\` | ${setting.default === '' ? '' : `\`${setting.default}\``} | ${setting.description} |`,
    )
    expect(rows).toEqual(expected)
  })

  const SERVICE_LINKS = {
    ROOKERY_SERVICE_HOST: '10.96.0.11',
    ROOKERY_SERVICE_PORT: '5000',
    ROOKERY_SERVICE_PORT_HTTP: '5000',
    ROOKERY_PORT: 'tcp://10.96.0.11:5000',
    ROOKERY_PORT_5000_TCP: 'tcp://10.96.0.11:5000',
    ROOKERY_PORT_5000_TCP_PROTO: 'tcp',
    ROOKERY_PORT_5000_TCP_PORT: '5000',
    ROOKERY_PORT_5000_TCP_ADDR: '10.96.0.11',
    ROOKERY_DB_SERVICE_HOST: 'fd00:10:96::b',
    ROOKERY_DB_PORT: 'tcp://[fd00:10:96::b]:5432',
    ROOKERY_DB_PORT_5432_TCP_ADDR: 'fd00:10:96::b',
  }

  it('are read beside the variables of a Kubernetes service with the name rookery', () => {
    expect(parseConfig(SERVICE_LINKS)).toEqual(parseConfig({}))
  })

  it.each([
    ['ROOKERY_PORT', '5000'],
    ['ROOKERY_LISTEN_PORT', '5000'],
    ['ROOKERY_SERVICE_HOST', 'db.example.org'],
    ['ROOKERY_SERVICE_PORT', 'http'],
    ['ROOKERY_SERVICE', '10.96.0.11'],
    ['ROOKERY_PORT_TCP', 'tcp://10.96.0.11:5000'],
    ['ROOKERY_PROTO', 'tcp'],
  ])('are not %s=%s: no service sets it', (name, value) => {
    expect(() => parseConfig({ [name]: value })).toThrow(`${name} is not a setting`)
  })

  it('have defaults that work', () => {
    const config = parseConfig({})
    expect(config.listen).toEqual({ host: '127.0.0.1', port: 5000 })
    expect(config.dataFolder).toBe('./data')
    expect(config.databaseUrl).toBeUndefined()
    expect(config.defaultVisibility).toBe('public')
  })

  const ON_S3 = { ROOKERY_S3_BUCKET: 'blobs' }

  it.each([
    [{}, { bucket: 'blobs', prefix: '', pathStyle: false, redirect: false }],
    [{ AWS_REGION: 'eu-north-1' }, { region: undefined }],
    [{ ROOKERY_S3_ENDPOINT: 'http://10.1.2.3:7480/' }, { endpoint: 'http://10.1.2.3:7480' }],
    [{ ROOKERY_S3_ENDPOINT: 'http://s3' }, { pathStyle: true, region: 'us-east-1' }],
    [{ ROOKERY_S3_ENDPOINT: 'http://s3', AWS_REGION: 'garage' }, { region: undefined }],
    [{ ROOKERY_S3_ENDPOINT: 'http://s3', ROOKERY_S3_STYLE: 'virtual-host' }, { pathStyle: false }],
    [{ ROOKERY_S3_STYLE: 'path' }, { pathStyle: true }],
    [{ ROOKERY_S3_PREFIX: 'a/b' }, { prefix: 'a/b/' }],
    [{ ROOKERY_S3_PREFIX: 'a/b/' }, { prefix: 'a/b/' }],
    [{ ROOKERY_S3_REDIRECT: 'on' }, { redirect: true }],
  ])('for a bucket, %j is applied', (environment, expected) => {
    expect(parseConfig({ ...ON_S3, ...environment }).s3).toMatchObject(expected)
  })

  it.each([
    ['ROOKERY_S3_ENDPOINT', 's3.example.org'],
    ['ROOKERY_S3_ENDPOINT', 'https://key:secret@s3.example.org'],
    ['ROOKERY_S3_PUBLIC_ENDPOINT', 'ftp://s3.example.org'],
    ['ROOKERY_S3_PREFIX', '/a'],
    ['ROOKERY_S3_PREFIX', 'a//b'],
    ['ROOKERY_S3_STYLE', 'Path'],
    ['ROOKERY_S3_CHECKSUMS', 'always'],
    ['ROOKERY_S3_REDIRECT', 'yes'],
    ['ROOKERY_S3_TIMEOUT_SECONDS', '0'],
    ['ROOKERY_BLOB_BYTES_MAX', '99999999999999'],
  ])('for a bucket, %s=%s is refused', (name, value) => {
    const parse = () => parseConfig({ ...ON_S3, [name]: value })
    expect(parse).toThrow(ConfigError)
    expect(parse).toThrow(name)
  })

  it('have their defaults when they are empty', () => {
    const empty = Object.fromEntries(SETTINGS.map(({ name }) => [name, '']))
    expect(parseConfig(empty)).toEqual(parseConfig({}))
  })

  it.each([
    ['ROOKERY_LISTEN', '[::1]:5000', { listen: { host: '::1', port: 5000 } }],
    ['ROOKERY_LISTEN', '0.0.0.0:0', { listen: { host: '0.0.0.0', port: 0 } }],
    ['ROOKERY_PUBLIC_URL', 'https://r.example.org/', { publicUrl: 'https://r.example.org' }],
    ['ROOKERY_DEFAULT_VISIBILITY', 'private', { defaultVisibility: 'private' }],
    ['ROOKERY_DRAIN_SECONDS', '0', { drainSeconds: 0 }],
    ['ROOKERY_DRAIN_DELAY_SECONDS', '15', { drainDelaySeconds: 15 }],
    ['ROOKERY_WORKERS', '4', { workers: 4 }],
  ])('%s=%s is accepted', (name, value, expected) => {
    expect(parseConfig({ [name]: value })).toMatchObject(expected)
  })

  it.each([
    ['ROOKERY_LISTEN', '5000'],
    ['ROOKERY_LISTEN', '127.0.0.1'],
    ['ROOKERY_LISTEN', '127.0.0.1:65536'],
    ['ROOKERY_LISTEN', '::1:5000'],
    ['ROOKERY_PUBLIC_URL', 'r.example.org'],
    ['ROOKERY_PUBLIC_URL', 'ftp://r.example.org'],
    ['ROOKERY_OPAM_URL', 'file:///opam.tar.gz'],
    ['ROOKERY_OPAM_URL', 'https://user:password@example.org/opam.tar.gz'],
    ['ROOKERY_PUBLIC_URL', 'https://r.example.org/registry'],
    ['ROOKERY_PUBLIC_URL', 'https://u:p@r.example.org'],
    ['ROOKERY_TRUSTED_PROXIES', '10.0.0.0/33'],
    ['ROOKERY_TRUSTED_PROXIES', 'proxy'],
    ['ROOKERY_DEFAULT_VISIBILITY', 'Public'],
    ['ROOKERY_BLOB_BYTES_MAX', '1e9'],
    ['ROOKERY_BLOB_BYTES_MAX', '0'],
    ['ROOKERY_UPLOAD_LIFETIME_SECONDS', '-1'],
    ['ROOKERY_WORKERS', '0'],
    ['ROOKERY_WORKERS', 'all'],
    ['ROOKERY_DRAIN_DELAY_SECONDS', '601'],
    ['ROOKERY_DRAIN_SECONDS', '3601'],
    ['ROOKERY_LOG_LEVEL', 'verbose'],
    ['ROOKERY_DATABASE_URL', 'mysql://x'],
    ['ROOKERY_UNHEARD_OF', '1'],
    ['ROOKERY_S3_ENDPOINT', 'https://s3.example.org'],
    ['ROOKERY_S3_REDIRECT', 'on'],
    ['ROOKERY_S3_BUCKET', 'a bucket'],
    ['ROOKERY_GC_INTERVAL_SECONDS', '0'],
  ])('%s=%s is refused in one line that names it', (name, value) => {
    expect(() => parseConfig({ [name]: value })).toThrow(new RegExp(`^${name}[^\n]+$`))
  })

  it('never repeat a database password', () => {
    const environment = { ROOKERY_DATABASE_URL: 'mysql://user:hunter2@host/db' }
    expect(() => parseConfig(environment)).not.toThrow(/hunter2/)
  })
})
