import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { freePorts } from '../support/free-ports.ts'
import { stopProcess } from '../support/server-process.ts'
import { waitUntil } from '../support/wait-until.ts'
import { BUILD, ClientSandbox, hasClient, PASSWORD } from './client-sandbox.ts'

const KERNEL = join(BUILD, 'bin/hello-key.hvt')
const LARGE_BYTES = 16 * 1024 * 1024
const CHUNK_BYTES = 1024 * 1024
const WAIT_SECONDS = 2
/** A proxy that collects a stream sends an event with the next heartbeat, after up to 15 seconds. */
const EVENT_MILLISECONDS_MAX = 3_000

/** Ports of the loopback: of the registry, and of the proxy in front of it. */
export type ProxyPorts = {
  readonly registry: number
  readonly https: number
  readonly http: number
}

/** A proxy in front of a registry. */
export type RunningProxy = {
  /** The file with the certificate of the authority that signed the one of `localhost`. */
  readonly authority: string
  readLog(): Promise<string>
  /** Lists the files with bodies that the proxy wrote. */
  listBodies(): Promise<string[]>
  stop(): void
}

export type ProxyUnderTest = {
  start(sandbox: ClientSandbox, ports: ProxyPorts): Promise<RunningProxy>
  /** True: the proxy itself limits the requests of an address, in the test to eight. */
  readonly limitsClients: boolean
  /** The log has a line of each request. */
  readonly logsRequests: boolean
}

/** Describes a proxy with its shipped configuration. The test file of each calls it. */
export function describeBehindProxy(name: 'nginx' | 'caddy', proxied: ProxyUnderTest): void {
  const isInstalled = hasClient(name) && hasClient('oras')
  describe.skipIf(!isInstalled)(`behind ${name}, with the configuration in deploy/`, () => {
    let sandbox: ClientSandbox
    let proxy: RunningProxy
    let ports: ProxyPorts
    let host: string

    beforeAll(async () => {
      const [registry = 0, https = 0, http = 0] = await freePorts(3)
      ports = { registry, https, http }
      host = `localhost:${https}`
      sandbox = await ClientSandbox.open({
        ROOKERY_LISTEN: `127.0.0.1:${registry}`,
        ROOKERY_PUBLIC_URL: `https://${host}`,
        ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
      })
      proxy = await proxied.start(sandbox, ports)
      await waitUntil(async () => (await asked('/healthz')).status === 200)
    })

    afterAll(async () => {
      proxy?.stop()
      await sandbox?.close()
    })

    it('images are pushed and pulled with oras, after a login', async () => {
      // Otherwise oras uses plain HTTP for a host of this name.
      const ca = ['--plain-http=false', '--ca-file', proxy.authority]
      await sandbox.oras(['login', ...ca, '-u', 'admin', '-p', PASSWORD, host])
      const kernel = 'bin/hello-key.hvt:application/vnd.unikernel.kernel.v1'
      const image = `${host}/builds/hello-key:latest`
      await sandbox.oras(['push', ...ca, image, kernel], BUILD)
      await sandbox.oras(['pull', ...ca, '-o', join(sandbox.folder, 'pulled'), image])
      const pulled = await readFile(join(sandbox.folder, 'pulled/bin/hello-key.hvt'))
      expect(pulled).toEqual(await readFile(KERNEL))
    })

    it('a large body passes through, and the proxy writes it to no file', async () => {
      const large = join(sandbox.folder, 'large')
      await writeFile(large, Buffer.concat([await readFile(KERNEL), randomBytes(LARGE_BYTES)]))
      const form = `kernel=@${large};filename=bin/large`
      const pushed = await asAdmin('/api/v1/repositories/builds/large/images?tag=live', '-F', form)
      expect(pushed.status).toBe(201)
      const manifest = JSON.parse((await asked('/v2/builds/large/manifests/live')).body)
      const blob = await asked(`/v2/builds/large/blobs/${manifest.layers[0].digest}`)
      expect(blob.bytes.equals(await readFile(large))).toBe(true)
      expect(await proxy.listBodies()).toEqual([])
    })

    it('an upload in chunks continues at each Location', async () => {
      const content = randomBytes(2 * CHUNK_BYTES)
      const at = (headers: string) => {
        const { href, host: authority } = new URL(locationOf(headers), `https://${host}`)
        expect(authority).toBe(host)
        return href.slice(`https://${host}`.length)
      }
      const begun = await asAdmin('/v2/builds/chunks/blobs/uploads/', '-X', 'POST')
      expect(begun.status).toBe(202)
      let location = at(begun.headers)
      for (const start of [0, CHUNK_BYTES]) {
        const chunk = join(sandbox.folder, 'chunk')
        await writeFile(chunk, content.subarray(start, start + CHUNK_BYTES))
        const range = `Content-Range: ${start}-${start + CHUNK_BYTES - 1}`
        const type = 'Content-Type: application/octet-stream'
        const words = ['-X', 'PATCH', '-H', range, '-H', type, '--data-binary', `@${chunk}`]
        const sent = await asAdmin(location, ...words)
        expect([sent.status, sent.body]).toEqual([202, ''])
        location = at(sent.headers)
      }
      const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`
      const query = `${location.includes('?') ? '&' : '?'}digest=${digest}`
      const ended = await asAdmin(`${location}${query}`, '-X', 'PUT')
      expect([ended.status, ended.body]).toEqual([201, ''])
      expect((await asked(at(ended.headers))).bytes.equals(content)).toBe(true)
    })

    it('a kernel is resumed by ranges, and is not sent again to a client that has it', async () => {
      const { body } = await asked('/v2/builds/hello-key/manifests/latest')
      const path = `/v2/builds/hello-key/blobs/${JSON.parse(body).layers[0].digest}`
      const whole = await asked(path, '--compressed')
      expect(whole.headers).not.toMatch(/^content-encoding:/im)
      const part = await asked(path, '-H', 'Range: bytes=16-63')
      expect([part.status, part.bytes.equals(whole.bytes.subarray(16, 64))]).toEqual([206, true])
      const [, etag = ''] = /^etag: (.*)\r$/im.exec(whole.headers) ?? []
      expect(etag).toMatch(/^"sha256:/)
      expect((await asked(path, '-H', `If-None-Match: ${etag}`)).status).toBe(304)
      const listed = await asked('/v2/builds/hello-key/tags/list', '--compressed')
      expect(listed.headers).not.toMatch(/^content-encoding:/im)
    })

    it('an upload without a credential is refused with a reason', async () => {
      const large = join(sandbox.folder, 'refused')
      await writeFile(large, randomBytes(LARGE_BYTES))
      const address = '/api/v1/repositories/builds/large/images?tag=live'
      // The status always arrives. Caddy loses the text of some answers that come before the end of the request.
      const body = await eventually(async () => {
        const refused = await asked(address, '-F', `kernel=@${large}`)
        expect(refused.status).toBe(401)
        expect(refused.body).not.toBe('')
        return refused.body
      })
      expect(JSON.parse(body).errors[0].code).toBe('UNAUTHORIZED')
    })

    it("a follower receives a tag's move at once", async () => {
      const follower = spawn('curl', [
        ...['-sSN', '--cacert', proxy.authority, '-H', 'Accept: text/event-stream'],
        `https://${host}/api/v1/events?repository=builds/moving&snapshot=1`,
      ])
      let lines = ''
      follower.stdout.on('data', (chunk) => {
        lines += chunk
      })
      try {
        // The snapshot comes first, and the first comment with it.
        await expect.poll(() => lines).not.toBe('')
        const address = '/api/v1/repositories/builds/moving/images?tag=live'
        expect((await asAdmin(address, '-F', `kernel=@${KERNEL}`)).status).toBe(201)
        const pushed = performance.now()
        await expect.poll(() => lines).toContain('event: image.tag.updated')
        expect(performance.now() - pushed).toBeLessThan(EVENT_MILLISECONDS_MAX)
        await expect.poll(() => lines).toContain(`"registry":"${host}"`)
      } finally {
        follower.kill()
      }
    })

    it('a client waits for an event, and gets the empty page at the end of its time', async () => {
      const page = '/api/v1/events?repository=builds/none'
      const { cursor } = JSON.parse((await asked(page)).body)
      const began = performance.now()
      const waited = await asked(`${page}&after=${cursor}&wait=${WAIT_SECONDS}`)
      expect([waited.status, JSON.parse(waited.body).events]).toEqual([200, []])
      expect(performance.now() - began).toBeGreaterThan(WAIT_SECONDS * 1000 - 100)
    })

    it('the registry knows the addresses of clients, and ignores forged headers', async () => {
      const attempt = ['-u', 'admin:wrong', '-X', 'POST', '--interface', '127.0.0.7']
      const lies = [
        'X-Forwarded-For: 192.0.2.1',
        'X-Real-IP: 192.0.2.1',
        'Forwarded: for=192.0.2.1;host=evil.example;proto=http',
        'X-Forwarded-Host: evil.example',
        'X-Forwarded-Port: 81',
      ].flatMap((line) => ['-H', line])
      const refused = await asked('/v2/builds/large/blobs/uploads/', ...attempt, ...lies)
      expect(refused.status).toBe(401)
      expect(refused.headers).toContain(`Bearer realm="https://${host}/token"`)
      const addresses = async () => {
        const { body } = await asAdmin('/api/v1/audit?n=50')
        return JSON.parse(body).entries.map(({ address }: { address: string }) => address)
      }
      await expect.poll(addresses).toContain('127.0.0.7')
      expect(await addresses()).not.toContain('192.0.2.1')
    })

    it('an upload URL is not in the log', async () => {
      await asked('/upload/rku_not-a-real-one', '-T', KERNEL)
      await asked('/healthz?seen')
      if (proxied.logsRequests) await expect.poll(() => proxy.readLog()).toContain('/healthz?seen')
      expect(await proxy.readLog()).not.toContain('rku_')
    })

    if (proxied.limitsClients) {
      it('one address gets its share of requests', async () => {
        const open = () =>
          spawn('curl', [
            ...['-sSN', '--cacert', proxy.authority, '--interface', '127.0.0.8'],
            ...['-H', 'Accept: text/event-stream', '-o', '/dev/null'],
            `https://${host}/api/v1/events?repository=builds/none`,
          ])
        // More than its share: the questions below may take the place of some.
        const followers = Array.from({ length: 16 }, open)
        const from = (address: string) => asked('/healthz', '--interface', address)
        try {
          await expect.poll(async () => (await from('127.0.0.8')).status).toBe(429)
          const refused = await from('127.0.0.8')
          expect(JSON.parse(refused.body).errors[0].code).toBe('TOOMANYREQUESTS')
          expect(refused.headers).toMatch(/^retry-after: 5\r$/im)
          expect((await from('127.0.0.7')).status).toBe(200)
        } finally {
          for (const one of followers) one.kill()
        }
        await expect.poll(async () => (await from('127.0.0.8')).status).toBe(200)
      })
    }

    it('browsers and clients are led to https, and speak HTTP/2 there', async () => {
      const plain = ['-sS', '-o', '/dev/null', '-w', '%{http_code} %{redirect_url}']
      const address = `http://localhost:${ports.http}/v2/builds/large/tags/list?n=1`
      const led = await sandbox.succeed('curl', [...plain, address])
      expect(led).toBe('308 https://localhost/v2/builds/large/tags/list?n=1')
      expect((await asked('/healthz', '--http2')).headers).toMatch(/^HTTP\/2 200/)
      expect((await asked('/healthz', '--http1.1')).headers).toMatch(/^HTTP\/1\.1 200/)
    })

    it('metrics and readiness are only for the inside', async () => {
      expect((await asAdmin('/metrics')).status).toBe(404)
      expect((await asAdmin('/readyz')).status).toBe(404)
      expect((await fetch(`http://127.0.0.1:${ports.registry}/readyz`)).status).toBe(200)
    })

    it('without the registry, clients read a reason that they understand', async () => {
      await stopProcess(sandbox.server)
      const { status, headers, body } = await asked('/upload/rku_not-a-real-one', '-T', KERNEL)
      expect(status).toBe(502)
      expect(headers).toMatch(/^content-type: application\/json\r$/im)
      expect(headers).toMatch(/^retry-after: 5\r$/im)
      expect(JSON.parse(body).errors[0].message).toMatch(/^the registry does not answer its proxy/)
      expect(await proxy.readLog()).not.toContain('rku_')
    })

    /** Returns the status, headers and body of an answer. */
    async function asked(path: string, ...args: string[]) {
      const form = ['-sS', '-o', 'body', '-D', 'headers', '-w', '%{http_code}']
      const trust = ['--cacert', proxy.authority]
      await writeFile(join(sandbox.folder, 'body'), '')
      const address = `https://${host}${path}`
      const ran = await sandbox.run('curl', [...form, ...trust, ...args, address])
      const bytes = await readFile(join(sandbox.folder, 'body'))
      return {
        status: Number(ran.stdout),
        headers: await readFile(join(sandbox.folder, 'headers'), 'utf8').catch(() => ''),
        bytes,
        body: bytes.toString(),
      }
    }

    function asAdmin(path: string, ...args: string[]) {
      return asked(path, '-u', sandbox.credential, ...args)
    }
  })
}

function locationOf(headers: string): string {
  const [, location = ''] = /^location: (.*)\r$/im.exec(headers) ?? []
  expect(location).not.toBe('')
  return location
}
