import type { IncomingMessage } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { clientAddress, clientBaseUrl, publicBaseUrl } from '../../src/http/addresses.ts'
import { NO_NETWORKS, parseNetworks } from '../../src/networks/networks.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const PROXIES = parseNetworks(['10.0.0.0/8', 'fd00::/8']) ?? NO_NETWORKS
const PROXY = '10.0.0.1'
const STRANGER = '203.0.113.9'

/** The fields that the functions read of a request. */
function request(headers: Record<string, string>, peer = PROXY): IncomingMessage {
  const withHost = { host: 'registry.test', ...headers }
  return { headers: withHost, socket: { remoteAddress: peer } } as unknown as IncomingMessage
}

describe('the address of a client behind a trusted proxy', () => {
  it.each([
    ['x-forwarded-for', '9.9.9.9', '9.9.9.9'],
    ['x-forwarded-for', '9.9.9.9:1234', '9.9.9.9'],
    ['x-forwarded-for', '[2001:db8::1]:1234', '2001:db8::1'],
    ['x-forwarded-for', '[2001:db8::1]', '2001:db8::1'],
    ['x-forwarded-for', '2001:db8::1', '2001:db8::1'],
    ['x-forwarded-for', '::ffff:9.9.9.9', '9.9.9.9'],
    ['x-forwarded-for', '1.1.1.1:5, 9.9.9.9:1234, 10.0.0.2:99', '9.9.9.9'],
    ['x-forwarded-for', '9.9.9.9:123456', PROXY],
    ['x-forwarded-for', 'unknown', PROXY],
    ['x-forwarded-for', '', PROXY],
    ['forwarded', 'for=9.9.9.9', '9.9.9.9'],
    ['forwarded', 'For="9.9.9.9:4711";proto=https;by=10.0.0.1', '9.9.9.9'],
    ['forwarded', 'for="[2001:db8:cafe::17]:4711"', '2001:db8:cafe::17'],
    ['forwarded', 'for=1.1.1.1, for=9.9.9.9, for=10.0.0.2', '9.9.9.9'],
    ['forwarded', 'proto=https; for=9.9.9.9', '9.9.9.9'],
    ['forwarded', 'for=_hidden', PROXY],
    ['forwarded', 'for=1.1.1.1, for=unknown', PROXY],
    ['forwarded', 'for=1.1.1.1;for=2.2.2.2', PROXY],
    ['forwarded', 'for="1.1.1.1', PROXY],
    ['forwarded', 'host="a, for=1.1.1.1", for=9.9.9.9', '9.9.9.9'],
    ['forwarded', '1.1.1.1', PROXY],
  ])('%s: %s', (name, value, address) => {
    expect(clientAddress(request({ [name]: value }), PROXIES)).toBe(address)
    expect(clientAddress(request({ [name]: value }, STRANGER), PROXIES)).toBe(STRANGER)
  })

  it('comes from X-Forwarded-For when a client added Forwarded', () => {
    const headers = { 'x-forwarded-for': '9.9.9.9', forwarded: 'for=10.1.1.1' }
    expect(clientAddress(request(headers), PROXIES)).toBe('9.9.9.9')
  })

  it('is found quickly in a hostile header', () => {
    const started = performance.now()
    for (const value of ['for="\\'.repeat(8_000), ' '.repeat(60_000), 'a=b;'.repeat(15_000)]) {
      clientAddress(request({ forwarded: value }), PROXIES)
    }
    expect(performance.now() - started).toBeLessThan(1_000)
  })
})

describe('the URL of the registry behind a trusted proxy', () => {
  it.each([
    [{ 'x-forwarded-proto': 'https' }, 'https://registry.test'],
    [{ 'x-forwarded-proto': 'HTTPS', 'x-forwarded-host': 'a.example' }, 'https://a.example'],
    [{ 'x-forwarded-proto': 'https', 'x-forwarded-port': '8443' }, 'https://registry.test:8443'],
    [{ 'x-forwarded-proto': 'https', 'x-forwarded-port': '443' }, 'https://registry.test'],
    [{ 'x-forwarded-proto': 'https', 'x-forwarded-port': '80' }, 'https://registry.test'],
    [{ 'x-forwarded-port': '8080' }, 'http://registry.test:8080'],
    [{ 'x-forwarded-host': 'a.example:1', 'x-forwarded-port': '2' }, 'http://a.example:1'],
    [{ 'x-forwarded-host': '[::1]', 'x-forwarded-port': '8443' }, 'http://[::1]:8443'],
    [{ 'x-forwarded-port': '1@evil.example' }, 'http://registry.test'],
    [{ 'x-forwarded-host': 'a.example/"x' }, 'http://localhost'],
    [{ forwarded: 'for=9.9.9.9;proto=https;host="a.example:8443"' }, 'https://a.example:8443'],
    [
      { forwarded: 'host=evil.example;proto=http, for=9.9.9.9;proto=https;host=a.example' },
      'https://a.example',
    ],
    [
      { forwarded: 'for=9.9.9.9;proto=https;host=a.example, for=10.0.0.2;proto=http;host=inner' },
      'https://a.example',
    ],
    [{ 'x-forwarded-proto': 'https', forwarded: 'proto=http' }, 'https://registry.test'],
  ])('%j is %s', (headers, url) => {
    expect(publicBaseUrl(request(headers), PROXIES, undefined)).toBe(url)
    expect(publicBaseUrl(request(headers, STRANGER), PROXIES, undefined)).toBe(
      'http://registry.test',
    )
    const configured = 'https://registry.example.org'
    expect(publicBaseUrl(request(headers), PROXIES, configured)).toBe(configured)
  })

  it('a stranger can change the scheme of its own challenge to https, and nothing else', () => {
    for (const headers of [
      { 'x-forwarded-proto': 'https', 'x-forwarded-host': 'evil.example', 'x-forwarded-port': '1' },
      { forwarded: 'proto=https;host=evil.example' },
    ]) {
      const url = clientBaseUrl(request(headers, STRANGER), PROXIES, undefined, () => {})
      expect(url).toBe('https://registry.test')
    }
    const down = request({ 'x-forwarded-proto': 'http' }, STRANGER)
    const configured = 'https://registry.example.org'
    expect(clientBaseUrl(down, PROXIES, configured, () => {})).toBe(configured)
  })
})

describe('behind a proxy with TLS, without settings', () => {
  let registry: TestRegistry

  beforeAll(async () => {
    registry = await startRegistry()
  })

  afterAll(() => registry?.close())

  it('a client is sent to an https realm, and the log names both settings once', async () => {
    const warnings = () => registry.log.filter((line) => line.includes('ROOKERY_TRUSTED_PROXIES'))
    await registry.anonymous('/v2/')
    expect(warnings()).toEqual([])
    for (let index = 0; index < 3; index += 1) {
      const headers = { 'x-forwarded-proto': 'https' }
      const answer = await registry.anonymous('/v2/', { headers })
      expect(answer.headers.get('www-authenticate')).toMatch(/realm="https:\/\//)
    }
    expect(warnings()).toHaveLength(1)
    expect(warnings()[0]).toContain('ROOKERY_PUBLIC_URL')
    const other = await registry.anonymous('/v2/')
    expect(other.headers.get('www-authenticate')).toMatch(/realm="http:\/\//)
  })

  it('an upload URL is an https URL', async () => {
    const answer = await registry.request('/api/v1/repositories/a/b/tags/v1/upload-urls', {
      method: 'POST',
      headers: { 'x-forwarded-proto': 'https' },
    })
    expect(answer.headers.get('cache-control')).toBe('no-store')
    expect(((await answer.json()) as { url: string }).url).toMatch(/^https:\/\//)
  })

  it('what caches may store says what the registry itself knows', async () => {
    const headers = { 'x-forwarded-proto': 'https' }
    const answer = await registry.anonymous('/.well-known/openid-configuration', { headers })
    expect(((await answer.json()) as { jwks_uri: string }).jwks_uri).toMatch(/^http:\/\/127/)
  })
})

describe('behind a proxy that is not trusted, with the URL of the registry set', () => {
  let registry: TestRegistry

  beforeAll(async () => {
    registry = await startRegistry({ ROOKERY_PUBLIC_URL: 'https://registry.example.org' })
  })

  afterAll(() => registry?.close())

  it('the log names the proxy once', async () => {
    const warnings = () => registry.log.filter((line) => line.includes('ROOKERY_TRUSTED_PROXIES'))
    await registry.anonymous('/v2/')
    expect(warnings()).toEqual([])
    for (let index = 0; index < 3; index += 1) {
      await registry.anonymous('/v2/', { headers: { 'x-forwarded-for': '192.0.2.1' } })
    }
    expect(warnings()).toHaveLength(1)
    expect(JSON.parse(warnings()[0] ?? '')).toMatchObject({ level: 'warn', proxy: '127.0.0.1' })
  })
})
