import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { build, builder, builderOutput, elf, errorLine } from './builder.ts'
import { printed } from './operator.ts'

const KERNEL = elf('mini-net.hvt')

let registry: TestRegistry
let host: string
let folder: string

beforeAll(async () => {
  registry = await startRegistry()
  host = registry.url.replace('http://', '')
  folder = await mkdtemp(join(tmpdir(), 'rookery-push-'))
})

afterAll(async () => {
  await registry?.close()
  await rm(folder, { recursive: true, force: true })
})

const mint = async (...more: string[]) => {
  const words = ['token', 'mint', '--action', 'pull', '--action', 'push', ...more]
  return (await printed(registry, ...words)).trim()
}

describe('a wrong build', () => {
  it('is refused before anything is sent, in one line with the reason', async () => {
    const cut = join(folder, 'cut.hvt')
    await writeFile(cut, (await readFile(KERNEL)).subarray(0, 300))
    await mkdir(join(folder, 'empty'))
    await mkdir(join(folder, 'file'))
    await writeFile(join(folder, 'file/bin'), 'no folder')
    await mkdir(join(folder, 'broken/bin'), { recursive: true })
    await cp(cut, join(folder, 'broken/bin/cut.hvt'))
    const wrong: [path: string, right: RegExp][] = [
      [
        join(folder, 'empty'),
        /there is no Solo5 kernel in .*, its bin folder \(orb\) or its dist folder \(mirage\); did the build fail/,
      ],
      [join(folder, 'file'), /there is no Solo5 kernel/],
      [join(folder, 'broken'), /: bin\/cut\.hvt: malformed kernel: at byte/],
      [join(folder, 'absent'), /there is no file or folder .*absent$/],
      [cut, /cut\.hvt is not a kernel: malformed kernel: at byte/],
      [join(build('hello-key-1'), 'opam-switch'), /is not a kernel: it is not an ELF executable/],
    ]
    for (const [path, right] of wrong) {
      expect(await errorLine(['push', path, '127.0.0.1:1/x:v1'])).toMatch(right)
    }
  })

  it('whose parts contradict each other is refused for every registry', async () => {
    const copy = join(folder, 'contradicting')
    await cp(build('hello-key-1'), copy, { recursive: true })
    const words = ['push', copy, '127.0.0.1:1/x:v1']
    await writeFile(join(folder, 'spt.json'), '{"target":"spt"}')
    expect(await errorLine([...words, '--config', join(folder, 'spt.json')])).toMatch(
      /config\.target says spt, but the image has hvt$/,
    )
    await writeFile(join(folder, 'none.json'), '{"memory":"much"}')
    expect(await errorLine([...words, '--config', join(folder, 'none.json')])).toMatch(
      /none\.json is not a unikernel config: config\.memory /,
    )
    const other = join(build('hello-key-2'), 'hello-key.build-hashes')
    await cp(other, join(copy, 'hello-key.build-hashes'))
    expect(await errorLine(words)).toMatch(/build-hashes says that the md5 of the kernel is/)
  })

  it('and a wrong command line are refused', async () => {
    const wrong: [words: string[], right: RegExp][] = [
      [['push'], /missing required argument "DIR\|FILE"$/],
      [['push', KERNEL, `${host}/x`], /must end with a tag and without a digest/],
      [['push', KERNEL, `${host}/x:v1`, '../v2'], /a tag must have letters/],
      [['push', KERNEL, 'www:v1'], /not an image reference: it must be like/],
      [['push', KERNEL, `${host}/x:v1`, '--created', 'yesterday'], /must be a time such as/],
      [['push', KERNEL, `${host}/x:v1`, '--username', 'orb'], /--password-stdin need each other$/],
      [['push', KERNEL, `${host}/x:v1`, '--nonsense'], /nonsense/],
    ]
    for (const [words, right] of wrong) expect(await errorLine(words)).toMatch(right)
  })
})

describe('a login', () => {
  const words = (name: string) => ['push', KERNEL, `${host}/${name}:v1`]
  const pushes = async (name: string, more: string[], environment: Record<string, string> = {}) => {
    const ran = await builder([...words(name), ...more], environment)
    expect(ran, name).toMatchObject({ status: 0 })
    expect((await registry.anonymous(`/v2/${name}/manifests/v1`)).status).toBe(200)
  }

  it('is a password or a token from standard input, a file, the environment or a URL there', async () => {
    const token = await mint('--repository', 'by/*')
    const file = join(folder, 'token')
    await writeFile(file, `${token}\n`)
    const { password } = registry
    await pushes('by/password', ['--username', 'admin', '--password-stdin'], { input: password })
    await pushes('by/file', ['--token-file', file])
    await pushes('by/input', ['--token-file', '-'], { input: `${token}\n` })
    await pushes('by/environment', [], { ROOKERY_TOKEN: token })
    const created = await printed(
      registry,
      ...['credential', 'create', 'by-secret', '--repository', 'by/*', '--json'],
    )
    await pushes('by/secret', [], { ROOKERY_TOKEN: JSON.parse(created).secret })
    for (const [user, secret] of [
      ['admin', password],
      ['token', token],
    ]) {
      const url = `http://${user}:${secret}@${host}/by/url-${user}:v1`
      const ran = await builder(['push', KERNEL, '-'], { input: `${url}\n` })
      expect(ran.stdout).toContain(`${host}/by/url-${user}:v1`)
    }
  })

  it('in the environment does not affect other commands', async () => {
    const settings = { ...registry.settings, ROOKERY_TOKEN: await mint('--repository', 'x') }
    expect(await printed({ settings }, 'key', 'list')).not.toBe('')
  })

  it('may be the stored login of docker or oras', async () => {
    const auth = Buffer.from(`admin:${registry.password}`).toString('base64')
    const config = JSON.stringify({ auths: { [host]: { auth } } })
    await writeFile(join(folder, 'config.json'), config)
    await pushes('by/docker', [], { DOCKER_CONFIG: folder })
  })

  it('that is wrong, missing or insufficient is reported with a remedy', async () => {
    const elsewhere = await mint('--repository', 'elsewhere')
    const tagged = await mint('--repository', 'by/*', '--tag', 'v2')
    const wrong: [environment: Record<string, string>, more: string[], right: RegExp][] = [
      [{}, [], /authentication required; log in: --username/],
      [{ ROOKERY_TOKEN: 'nonsense' }, [], /the token is expired, revoked/],
      [{ ROOKERY_TOKEN: 'non sense' }, [], /characters that are not allowed in a token$/],
      [
        { ROOKERY_TOKEN: elsewhere },
        [],
        /the token is for elsewhere \(pull, push\): create another one/,
      ],
      [{ ROOKERY_TOKEN: tagged }, [], /the manifest v1.*\(DENIED\)/],
      [{ input: 'wrong' }, ['--username', 'admin', '--password-stdin'], /the user admin or its/],
      [
        { input: '' },
        ['--username', 'admin', '--password-stdin'],
        /is empty; it must contain a password/,
      ],
      [{}, ['--token-file', join(folder, 'absent')], /cannot be read from .*absent/],
    ]
    for (const [environment, more, right] of wrong) {
      expect(await errorLine([...words('by/nobody'), ...more], environment)).toMatch(right)
    }
    expect((await registry.anonymous('/v2/by/nobody/manifests/v1')).status).toBe(404)
  })

  it('of a registry on this machine that speaks TLS is asked for with https', async () => {
    const proxy = createServer((_request, response) => {
      response.writeHead(400, { 'content-type': 'text/html' })
      response.end('<h1>The plain HTTP request was sent to HTTPS port</h1>')
    })
    proxy.listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    const place = `127.0.0.1:${(proxy.address() as AddressInfo).port}`
    try {
      expect(await errorLine(['push', KERNEL, `${place}/a:v1`])).toMatch(
        new RegExp(`status 400; ${place} was asked without TLS: if .*, write https://${place}$`),
      )
    } finally {
      proxy.close()
    }
  })

  it('in a URL is never repeated', async () => {
    for (const rest of ['', '/x', '/X:v1', '/x:v1?y', '/x@sha256:1']) {
      const url = `http://orb:SECRET@${host}${rest}`
      for (const ran of [
        await builder(['push', KERNEL, url]),
        await builder(['push', KERNEL, '-'], { input: url }),
      ]) {
        expect(ran.status, rest).toBe(2)
        expect(ran.stderr + ran.stdout).not.toContain('SECRET')
      }
    }
  })
})

describe('a registry that refuses', () => {
  it('is quoted', async () => {
    await builderOutput(['push', build('hello-key-1'), `${host}/strict:v0`], {
      ROOKERY_TOKEN: await mint('--repository', 'strict'),
    })
    await printed(registry, 'repository', 'set', 'strict', '--provenance', 'required')
    const environment = { ROOKERY_TOKEN: await mint('--repository', 'strict') }
    expect(await errorLine(['push', KERNEL, `${host}/strict:v1`], environment)).toMatch(
      /this repository requires provenance, and the image is missing opam-switch/,
    )
  })

  it('does not listen, or has another protocol', async () => {
    const closed = ['push', KERNEL, '127.0.0.1:1/x:v1']
    expect(await errorLine(closed)).toMatch(/nothing listens at 127\.0\.0\.1:1/)
    const tls = ['push', KERNEL, `https://${host}/x:v1`]
    expect(await errorLine(tls)).toMatch(/does not speak TLS/)
  })
})
