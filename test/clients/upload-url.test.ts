import { execFile } from 'node:child_process'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BUILD, ClientSandbox, hasClient } from './client-sandbox.ts'

const runFile = promisify(execFile)
const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const KERNEL = join(BUILD, 'bin/hello-key.hvt')

describe('a builder that has only curl -T', () => {
  let sandbox: ClientSandbox
  let kernel: Buffer

  /** Runs `rookery upload-url create` beside the server. */
  async function created(...words: string[]): Promise<string> {
    const env = { ...process.env, ROOKERY_DATA_DIR: join(sandbox.folder, 'data') }
    const { stdout } = await runFile(process.execPath, [MAIN, 'upload-url', 'create', ...words], {
      env,
    })
    return stdout.trim()
  }

  /** Returns the status and the body of the answer. */
  async function upload(...args: string[]): Promise<{ status: string; body: string }> {
    const stdout = await sandbox.succeed('curl', ['-sS', '-w', '\n%{http_code}', ...args])
    const end = stdout.lastIndexOf('\n')
    return { status: stdout.slice(end + 1), body: stdout.slice(0, end) }
  }

  async function pulled(reference: string): Promise<Buffer> {
    const manifest = JSON.parse(await sandbox.curl([`http://${sandbox.host}/v2/${reference}`]))
    const blob = `${reference.replace(/manifests\/.*/, 'blobs')}/${manifest.layers[0].digest}`
    await sandbox.curl(['-o', 'pulled', `http://${sandbox.host}/v2/${blob}`])
    return readFile(join(sandbox.folder, 'pulled'))
  }

  beforeAll(async () => {
    sandbox = await ClientSandbox.open()
    kernel = await readFile(KERNEL)
  })

  afterAll(() => sandbox?.close())

  it('uploads a file, once', async () => {
    const url = await created('builds/www:v1')
    expect(url).toMatch(new RegExp(`^${sandbox.server.url}/upload/rku_[\\w-]+$`))
    const { status, body } = await upload('-T', KERNEL, url)
    expect(status).toBe('201')
    expect(JSON.parse(body)).toMatchObject({ repository: 'builds/www', tag: 'v1' })
    expect(await pulled('builds/www/manifests/v1')).toEqual(kernel)
    const again = await upload('-T', KERNEL, url)
    expect(again.status).toBe('410')
    expect(again.body).toContain('was used at')
    expect((await sandbox.run('curl', ['-f', '-T', KERNEL, url])).status).toBe(22)
  })

  it('uploads a file under its name, and oras saves it with that name', async () => {
    const answer = JSON.parse(await created('builds/named:v1', '--ttl', '30m', '--json'))
    expect(answer).toMatchObject({ repository: 'builds/named', tag: 'v1' })
    expect(Date.parse(answer.expiresAt) - Date.now()).toBeGreaterThan(1_700_000)
    const file = join(sandbox.folder, 'hello key #1.hvt')
    await copyFile(KERNEL, file)
    expect((await upload('-T', file, `${answer.url}/`)).status).toBe('201')
    if (!hasClient('oras')) return
    await sandbox.oras(['pull', '--plain-http', '-o', 'saved', `${sandbox.host}/builds/named:v1`])
    expect(await readFile(join(sandbox.folder, 'saved/hello key #1.hvt'))).toEqual(kernel)
  })

  it('pipes its output, and names the file', async () => {
    const url = await created('builds/piped:v1')
    const type = 'application/vnd.unikernel.kernel.v1'
    const script = 'cat "$1" | curl -sS -T - -H "Content-Type: $2" "$3"'
    const body = await sandbox.succeed('sh', ['-c', script, 'sh', KERNEL, type, url])
    expect(JSON.parse(body).blob).toMatchObject({ mediaType: type, size: kernel.length })
  })

  it('sends a large file only to a valid URL', async () => {
    const large = join(sandbox.folder, 'large')
    await writeFile(large, Buffer.alloc(64 * 1024 * 1024, 'x'))
    const url = await created('builds/large:v1')
    expect((await upload('-T', large, url)).status).toBe('201')
    // Otherwise curl sends the body after a second, without waiting for an answer.
    const patient = ['--expect100-timeout', '60']
    const sent = [...patient, '-T', large, '-o', 'answer', '-w', '%{http_code} %{size_upload}']
    expect(await sandbox.succeed('curl', ['-sS', ...sent, url])).toBe('410 0')
    const unheard = `${sandbox.server.url}/upload/unheard-of`
    expect(await sandbox.succeed('curl', ['-sS', ...sent, unheard])).toBe('404 0')
  })

  it.each(['builds/www', ':v1', 'builds/www:', 'a:b:c', 'UPPER:v1', 'a:-b'])(
    'is not sent to %s',
    async (words) => {
      const refused = await created(words).catch((error) => error)
      expect(refused).toMatchObject({ code: 2, stdout: '' })
      expect(refused.stderr).toMatch(/^rookery: /)
    },
  )
})
