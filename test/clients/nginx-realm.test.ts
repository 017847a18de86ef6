import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePorts } from '../support/free-ports.ts'
import { ClientSandbox, hasClient } from './client-sandbox.ts'
import { type Nginx, startNginx } from './nginx-server.ts'

const HOST = 'proxy_set_header Host $http_host;'
const PROTO = 'proxy_set_header X-Forwarded-Proto $scheme;'
// nginx has no variable for this header of RFC 7239.
const FORWARDED = `proxy_set_header Forwarded 'for="[2001:db8::1]:4711";proto=$scheme;host="$http_host"';`
const PORT = 'proxy_set_header X-Forwarded-Port $server_port;'

/** Headers that administrators configure, and whether the registry must trust the proxy for them. */
const PROXIES = {
  'X-Forwarded-Proto': { headers: `${HOST} ${PROTO}`, trusted: false },
  Forwarded: { headers: `${HOST} ${FORWARDED}`, trusted: false },
  'X-Forwarded-Proto, trusted': { headers: `${HOST} ${PROTO}`, trusted: true },
  'Forwarded, trusted': { headers: FORWARDED, trusted: true },
  'X-Forwarded-Port and a host without port': {
    headers: `proxy_set_header Host $host; ${PROTO} ${PORT}`,
    trusted: true,
  },
  'X-Forwarded-Host': {
    headers: `proxy_set_header X-Forwarded-Host $http_host; ${PROTO}`,
    trusted: true,
  },
} as const
/** More than nginx accepts by default. */
const BODY_BYTES = 2 * 1024 * 1024
const NAMES = Object.keys(PROXIES) as (keyof typeof PROXIES)[]

describe.skipIf(!hasClient('nginx'))('behind TLS of nginx, without ROOKERY_PUBLIC_URL', () => {
  const sandboxes: ClientSandbox[] = []
  let nginx: Nginx
  let ports: number[]

  beforeAll(async () => {
    ports = await freePorts(NAMES.length)
    const open = async (settings: Record<string, string> = {}) => {
      const sandbox = await ClientSandbox.open(settings)
      sandboxes.push(sandbox)
      return sandbox
    }
    const strange = await open()
    const trusting = await open({ ROOKERY_TRUSTED_PROXIES: '127.0.0.1' })
    nginx = await startNginx(strange, (path) =>
      NAMES.map((name, index) => {
        const { headers, trusted } = PROXIES[name]
        return `server {
          listen 127.0.0.1:${ports[index]} ssl;
          ssl_certificate ${path('fullchain.pem')};
          ssl_certificate_key ${path('privkey.pem')};
          location / { ${headers} proxy_pass http://${(trusted ? trusting : strange).host}; }
        }`
      }).join('\n'),
    )
    const patiently = ['--retry', '20', '--retry-connrefused', '--retry-delay', '1']
    await strange.curl([...nginx.trust, ...patiently, `https://localhost:${ports[0]}/healthz`])
  })

  afterAll(async () => {
    nginx?.stop()
    for (const sandbox of sandboxes) await sandbox.close()
  })

  it.each(NAMES)('with %s, a client is sent to the https address that it used', async (name) => {
    const [sandbox] = sandboxes
    const base = `https://localhost:${ports[NAMES.indexOf(name)]}`
    const ran = await sandbox?.run('curl', ['-sSi', ...nginx.trust, `${base}/v2/`])
    const realm = /^www-authenticate: Bearer realm="([^"]*)"/im.exec(ran?.stdout ?? '')?.[1]
    expect(realm).toBe(`${base}/token`)
    const token = await sandbox?.run('curl', ['-sS', ...nginx.trust, realm ?? ''])
    expect(JSON.parse(token?.stdout ?? '')).toHaveProperty('token')
  })

  it('and without client_max_body_size, a blob of more than 1 MiB is 413, which no answer of the registry is', async () => {
    const [sandbox] = sandboxes
    if (sandbox === undefined) throw new Error('no sandbox')
    await writeFile(join(sandbox.folder, 'large'), Buffer.alloc(BODY_BYTES))
    const address = `https://localhost:${ports[0]}/v2/a/b/blobs/uploads/?digest=sha256:${'0'.repeat(64)}`
    const words = ['-sSi', ...nginx.trust, '-u', sandbox.credential, '-X', 'POST']
    const { stdout } = await sandbox.run('curl', [...words, '--data-binary', '@large', address])
    expect(stdout).toMatch(/^HTTP\/1\.1 413 /m)
    expect(stdout).not.toMatch(/^x-request-id:/im)
  })
})
