import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePorts } from '../support/free-ports.ts'
import { BUILD, ClientSandbox, hasClient, PASSWORD } from './client-sandbox.ts'
import { type Nginx, startNginx } from './nginx-server.ts'

const EXAMPLE = new URL('../../docs/examples/nginx.conf', import.meta.url)
const KERNEL = join(BUILD, 'bin/hello-key.hvt')
const LARGE_BYTES = 40 * 1024 * 1024
/** The limit in the example: the test has a lower one. */
const CLIENT_CONNECTIONS = 1000

describe.skipIf(!hasClient('nginx') || !hasClient('oras'))(
  'behind nginx, as the example has it',
  () => {
    let sandbox: ClientSandbox
    let nginx: Nginx
    let host: string
    let trust: readonly string[]

    beforeAll(async () => {
      const [behind, before] = await freePorts(2)
      host = `localhost:${before}`
      sandbox = await ClientSandbox.open({
        ROOKERY_LISTEN: `127.0.0.1:${behind}`,
        ROOKERY_PUBLIC_URL: `https://${host}`,
        ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
      })
      const example = (await readFile(EXAMPLE, 'utf8'))
        .replace('127.0.0.1:5000', `127.0.0.1:${behind}`)
        .replace('listen 443 ', `listen 127.0.0.1:${before} `)
        .replace('registry.example.org;', 'localhost;')
        .replace(`limit_conn clients ${CLIENT_CONNECTIONS};`, 'limit_conn clients 8;')
      expect(example).toContain('limit_conn clients 8;')
      nginx = await startNginx(sandbox, (path) =>
        example.replaceAll('/etc/letsencrypt/live/registry.example.org', path()),
      )
      trust = nginx.trust
      const patiently = ['--retry', '20', '--retry-connrefused', '--retry-delay', '1']
      await sandbox.curl([...trust, ...patiently, `https://${host}/healthz`])
    })

    afterAll(async () => {
      nginx?.stop()
      await sandbox?.close()
    })

    it('images are pushed and pulled with oras, after a login', async () => {
      // Otherwise oras uses plain HTTP for a host of this name.
      const ca = ['--plain-http=false', '--ca-file', nginx.path('fullchain.pem')]
      await sandbox.oras(['login', ...ca, '-u', 'admin', '-p', PASSWORD, host])
      const kernel = 'bin/hello-key.hvt:application/vnd.unikernel.kernel.v1'
      const image = `${host}/builds/hello-key:latest`
      await sandbox.oras(['push', ...ca, image, kernel], BUILD)
      await sandbox.oras(['pull', ...ca, '-o', join(sandbox.folder, 'pulled'), image])
      expect(await readFile(join(sandbox.folder, 'pulled/bin/hello-key.hvt'))).toEqual(
        await readFile(KERNEL),
      )
      const { headers } = await asked(`/v2/builds/hello-key/manifests/latest`, '-I')
      expect(headers).toMatch(/^docker-content-digest: sha256:/im)
    })

    it('a large body passes through, and the proxy writes it to no file', async () => {
      const large = join(sandbox.folder, 'large')
      await writeFile(large, Buffer.concat([await readFile(KERNEL), randomBytes(LARGE_BYTES)]))
      await sandbox.curl([
        ...[...trust, '-u', sandbox.credential, '-F', `kernel=@${large};filename=bin/large`],
        `https://${host}/api/v1/repositories/builds/large/images?tag=live`,
      ])
      const manifest = JSON.parse((await asked('/v2/builds/large/manifests/live')).body)
      const blob = `https://${host}/v2/builds/large/blobs/${manifest.layers[0].digest}`
      await sandbox.curl([...trust, '-o', join(sandbox.folder, 'back'), blob])
      expect((await readFile(join(sandbox.folder, 'back'))).equals(await readFile(large))).toBe(
        true,
      )
      const kept = await readdir(nginx.path('temporary'), { recursive: true, withFileTypes: true })
      expect(kept.filter((entry) => entry.isFile())).toEqual([])
    })

    it('an upload without a credential is refused with a reason', async () => {
      const large = join(sandbox.folder, 'refused')
      await writeFile(large, randomBytes(LARGE_BYTES))
      const address = '/api/v1/repositories/builds/large/images?tag=live'
      const { status, body } = await asked(address, '-F', `kernel=@${large}`)
      expect(status).toBe(401)
      expect(JSON.parse(body).errors[0].code).toBe('UNAUTHORIZED')
    })

    it("a follower receives a tag's move at once", async () => {
      const follower = spawn('curl', [
        ...['-sSN', ...trust, '-H', 'Accept: text/event-stream'],
        `https://${host}/api/v1/events?repository=builds/moving&snapshot=1`,
      ])
      let lines = ''
      follower.stdout.on('data', (chunk) => {
        lines += chunk
      })
      try {
        // The snapshot comes first, and the first comment with it.
        await expect.poll(() => lines).not.toBe('')
        const address = `https://${host}/api/v1/repositories/builds/moving/images?tag=live`
        const kernel = `kernel=@${KERNEL}`
        await sandbox.curl([...trust, '-u', sandbox.credential, '-F', kernel, address])
        await expect.poll(() => lines).toContain('event: image.tag.updated')
        await expect.poll(() => lines).toContain(`"registry":"${host}"`)
      } finally {
        follower.kill()
      }
    })

    it('the registry knows the addresses of clients, and ignores a forged X-Forwarded-For', async () => {
      const attempt = ['-u', 'admin:wrong', '-X', 'POST', '--interface', '127.0.0.7']
      const lie = ['-H', 'X-Forwarded-For: 192.0.2.1']
      const { status } = await asked('/v2/builds/large/blobs/uploads/', ...attempt, ...lie)
      expect(status).toBe(401)
      const addresses = async () => {
        const { body } = await asked('/api/v1/audit?n=50', '-u', sandbox.credential)
        return JSON.parse(body).entries.map(({ address }: { address: string }) => address)
      }
      await expect.poll(addresses).toContain('127.0.0.7')
      expect(await addresses()).not.toContain('192.0.2.1')
    })

    it('an upload URL is not in the log', async () => {
      await asked('/upload/rku_not-a-real-one', '-T', KERNEL)
      await asked('/healthz?seen')
      const log = () => readFile(nginx.path('access.log'), 'utf8')
      await expect.poll(log).toContain('/healthz?seen')
      expect(await log()).not.toContain('rku_')
    })

    it('one address gets its share of connections', async () => {
      const open = () =>
        spawn('curl', [
          ...['-sSN', ...trust, '--interface', '127.0.0.8', '-H', 'Accept: text/event-stream'],
          ...['-o', '/dev/null', `https://${host}/api/v1/events?repository=builds/none`],
        ])
      // More than its share: the questions below may take the place of some.
      const followers = Array.from({ length: 16 }, open)
      const from = async (address: string) =>
        (await asked('/healthz', '--interface', address)).status
      try {
        await expect.poll(() => from('127.0.0.8')).toBe(429)
        expect(await from('127.0.0.7')).toBe(200)
      } finally {
        for (const one of followers) one.kill()
      }
      await expect.poll(() => from('127.0.0.8')).toBe(200)
    })

    it('metrics are only for the inside', async () => {
      expect((await asked('/metrics', '-u', sandbox.credential)).status).toBe(404)
    })

    /** Returns the status, headers and body of an answer. */
    async function asked(path: string, ...args: string[]) {
      const form = ['-o', 'body', '-D', 'headers', '-w', '%{http_code}']
      const ran = await sandbox.run('curl', [
        '-sS',
        ...trust,
        ...form,
        ...args,
        `https://${host}${path}`,
      ])
      const text = (name: string) => readFile(join(sandbox.folder, name), 'utf8').catch(() => '')
      return {
        status: Number(ran.stdout),
        headers: await text('headers'),
        body: await text('body'),
      }
    }
  },
)
