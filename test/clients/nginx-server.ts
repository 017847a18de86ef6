import { spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ClientSandbox } from './client-sandbox.ts'

export type Nginx = {
  /** curl's options to trust the certificate of `localhost`. */
  readonly trust: readonly string[]
  /** The certificate of `localhost`, which is its own authority. */
  readonly authority: string
  /** A path in the folder of nginx, which has `fullchain.pem`, `privkey.pem`, `access.log` and `temporary`. */
  path(...path: string[]): string
  stop(): void
}

/** Starts nginx with a certificate of `localhost`. `blocks` returns its `server` and `upstream` blocks. */
export async function startNginx(
  sandbox: ClientSandbox,
  blocks: (path: Nginx['path']) => string,
): Promise<Nginx> {
  const path = (...parts: string[]) => join(sandbox.folder, 'nginx', ...parts)
  await mkdir(path('temporary'), { recursive: true })
  const key = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2']
  const name = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  const files = ['-keyout', path('privkey.pem'), '-out', path('fullchain.pem')]
  await sandbox.succeed('openssl', [...key, ...name, ...files])
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (kind) => `${kind}_temp_path ${path('temporary', kind)};`,
  )
  await writeFile(
    path('nginx.conf'),
    `daemon off; master_process off; pid ${path('pid')}; error_log stderr warn;
       events {}
       http { access_log ${path('access.log')}; ${folders.join(' ')}
       ${blocks(path)}
       }`,
  )
  const nginx = spawn('nginx', ['-c', path('nginx.conf'), '-p', path()], { stdio: 'inherit' })
  const authority = path('fullchain.pem')
  return { trust: ['--cacert', authority], authority, path, stop: () => nginx.kill('SIGKILL') }
}
