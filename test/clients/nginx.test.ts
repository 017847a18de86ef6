import { readdir, readFile } from 'node:fs/promises'
import { describeBehindProxy } from './behind-proxy.ts'
import { startNginx } from './nginx-server.ts'

const SHIPPED = new URL('../../deploy/nginx/rookery.conf', import.meta.url)
/** The limit in the file: the test has a lower one. */
const REQUESTS_MAX = 'limit_conn rookery_clients 1000;'
/** A second replica, which in the test does not run. */
const SECOND_REPLICA = '# server 10.0.0.2:5000 '
const CLOSED_PORT = 1

describeBehindProxy('nginx', {
  limitsClients: true,
  logsRequests: true,
  async start(sandbox, ports) {
    const shipped = await readFile(SHIPPED, 'utf8')
    for (const text of [REQUESTS_MAX, SECOND_REPLICA]) {
      if (!shipped.includes(text)) throw new Error(`${SHIPPED.pathname} has no ${text}`)
    }
    const { path, authority, stop } = await startNginx(sandbox, (inFolder) =>
      shipped
        .replaceAll('/etc/letsencrypt/live/registry.example.org', inFolder())
        .replaceAll('registry.example.org', 'localhost')
        .replaceAll('/var/log/nginx', inFolder())
        .replaceAll(/^ *listen \[::\].*\n/gm, '')
        .replaceAll('listen 443 ', `listen 127.0.0.1:${ports.https} `)
        .replaceAll('listen 80;', `listen 127.0.0.1:${ports.http};`)
        .replaceAll('127.0.0.1:5000', `127.0.0.1:${ports.registry}`)
        .replaceAll(SECOND_REPLICA, `server 127.0.0.1:${CLOSED_PORT} `)
        .replaceAll(REQUESTS_MAX, 'limit_conn rookery_clients 8;'),
    )
    return {
      authority,
      readLog: () => readFile(path('access.log'), 'utf8'),
      async listBodies() {
        const found = await readdir(path('temporary'), { recursive: true, withFileTypes: true })
        return found.filter((entry) => entry.isFile()).map(({ name }) => name)
      },
      stop,
    }
  },
})
