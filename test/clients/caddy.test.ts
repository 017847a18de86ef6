import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePorts } from '../support/free-ports.ts'
import { waitUntil } from '../support/wait-until.ts'
import { describeBehindProxy, type ProxyPorts, type RunningProxy } from './behind-proxy.ts'
import { hasClient } from './client-sandbox.ts'

const SHIPPED = new URL('../../deploy/caddy/Caddyfile', import.meta.url)

/** Starts Caddy with files in `folder`. `change` changes the shipped configuration. */
async function startCaddy(
  folder: string,
  addresses: string,
  ports: Omit<ProxyPorts, 'registry'>,
  change: (shipped: string) => string = (shipped) => shipped,
): Promise<RunningProxy> {
  const path = (...parts: string[]) => join(folder, 'caddy', ...parts)
  await mkdir(path('temporary'), { recursive: true })
  const shipped = change(await readFile(SHIPPED, 'utf8'))
  if (!/^\{$/m.test(shipped)) throw new Error(`${SHIPPED.pathname} has no global options`)
  // An authority of its own signs the certificate of `localhost`, and is not added to those of the system.
  const ofTest = ['admin off', 'skip_install_trust', 'default_bind 127.0.0.1']
  const options = [...ofTest, `http_port ${ports.http}`, `https_port ${ports.https}`]
  await writeFile(path('Caddyfile'), shipped.replace(/^\{$/m, `{\n${options.join('\n')}`))
  const caddy = spawn('caddy', ['run', '--config', path('Caddyfile'), '--adapter', 'caddyfile'], {
    env: {
      ...process.env,
      REGISTRY_NAME: 'localhost',
      REGISTRY_ADDRESS: addresses,
      HOME: path(),
      TMPDIR: path('temporary'),
      XDG_CONFIG_HOME: path('config'),
      XDG_DATA_HOME: path('data'),
    },
  })
  let log = ''
  caddy.stderr.on('data', (chunk) => {
    log += chunk
  })
  const authority = path('data/caddy/pki/authorities/local/root.crt')
  await waitUntil(async () => (await readFile(authority).catch(() => '')).length > 0)
  return {
    authority,
    readLog: async () => log,
    listBodies: () => readdir(path('temporary')),
    stop: () => caddy.kill('SIGKILL'),
  }
}

describeBehindProxy('caddy', {
  limitsClients: false,
  logsRequests: false,
  start: (sandbox, ports) => startCaddy(sandbox.folder, `127.0.0.1:${ports.registry}`, ports),
})

describe.skipIf(!hasClient('caddy'))('caddy in front of two replicas', () => {
  let folder: string
  let proxy: RunningProxy
  let https: number
  const replicas: Server[] = []
  /** The status of /readyz of each replica. */
  const readiness = [200, 200]

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-replicas-'))
    const [port = 0, http = 0] = await freePorts(2)
    https = port
    for (const index of readiness.keys()) {
      const replica = createServer((req, res) => {
        res.statusCode = req.url === '/readyz' ? (readiness[index] ?? 0) : 200
        res.end(String(index))
      })
      replicas.push(replica)
      await once(replica.listen(0, '127.0.0.1'), 'listening')
    }
    const addresses = replicas.map(
      (replica) => `127.0.0.1:${(replica.address() as AddressInfo).port}`,
    )
    proxy = await startCaddy(folder, addresses.join(' '), { https, http }, (shipped) =>
      shipped.replace(/# (?=lb_policy|health_)/g, ''),
    )
  })

  afterAll(async () => {
    proxy?.stop()
    for (const replica of replicas) replica.close()
    await rm(folder, { recursive: true, force: true })
  })

  /** Returns the replicas that answer some requests. */
  async function answering(): Promise<string[]> {
    const words = [
      '-sS',
      '--cacert',
      proxy.authority,
      ...Array(8).fill(`https://localhost:${https}/`),
    ]
    const { stdout } = await promisify(execFile)('curl', words).catch(() => ({ stdout: '' }))
    return [...new Set(stdout)].sort()
  }

  it('sends requests to both, and to the one that is ready when the other is not', async () => {
    await expect.poll(answering).toEqual(['0', '1'])
    readiness[0] = 503
    await expect.poll(answering).toEqual(['1'])
    readiness[0] = 200
    await expect.poll(answering).toEqual(['0', '1'])
  })
})
