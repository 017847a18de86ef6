import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ConfigError, parseConfig, SETTINGS } from '../../src/config/config.ts'
import { ROOT } from '../house/tree.ts'

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
    ['ROOKERY_PUBLIC_URL', 'https://r.example.org/registry'],
    ['ROOKERY_PUBLIC_URL', 'https://u:p@r.example.org'],
    ['ROOKERY_TRUSTED_PROXIES', '10.0.0.0/33'],
    ['ROOKERY_TRUSTED_PROXIES', 'proxy'],
    ['ROOKERY_DEFAULT_VISIBILITY', 'Public'],
    ['ROOKERY_BLOB_BYTES_MAX', '1e9'],
    ['ROOKERY_BLOB_BYTES_MAX', '0'],
    ['ROOKERY_UPLOAD_LIFETIME_SECONDS', '-1'],
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
