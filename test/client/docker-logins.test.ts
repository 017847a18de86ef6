import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { findDockerLogin, UnreadableLoginsError } from '../../src/client/docker-logins.ts'

const base64 = (text: string) => Buffer.from(text).toString('base64')
const password = (username: string, secret: string) => ({
  kind: 'password',
  username,
  password: secret,
})

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-logins-'))
})

afterEach(() => rm(folder, { recursive: true, force: true }))

async function keep(config: unknown, name = 'config.json'): Promise<void> {
  const text = typeof config === 'string' ? config : JSON.stringify(config)
  await writeFile(join(folder, name), text)
}

/** A credential helper with a login for one host. */
async function helper(name: string, script: string): Promise<void> {
  const path = join(folder, `docker-credential-${name}`)
  await writeFile(path, `#!/bin/sh\n${script}\n`)
  await chmod(path, 0o755)
}

const find = (host: string, more: Record<string, string> = {}, repository = 'builds/www') =>
  findDockerLogin(host, repository, {
    DOCKER_CONFIG: folder,
    PATH: `${folder}:${process.env.PATH}`,
    ...more,
  })

describe('a login stored by other tools', () => {
  it('is found by host', async () => {
    await keep({
      auths: {
        'a.example:5000': { auth: base64('orb:se:cret') },
        'https://b.example': { username: 'orb', password: 'plain' },
        'c.example': { identitytoken: 'kept', auth: base64('orb:') },
        'd.example': { registrytoken: 'e30.e30.e30' },
        'e.example': {},
        'https://index.docker.io/v1/': { auth: base64('hub:secret\0\0') },
      },
    })
    expect(await find('a.example:5000')).toEqual(password('orb', 'se:cret'))
    expect(await find('b.example')).toEqual(password('orb', 'plain'))
    expect(await find('c.example')).toEqual({ kind: 'identity-token', token: 'kept' })
    expect(await find('d.example')).toEqual({ kind: 'token', token: 'e30.e30.e30' })
    expect(await find('docker.io')).toEqual(password('hub', 'secret'))
    for (const host of ['a.example', 'e.example', 'toString', '__proto__', 'x.a.example:5000']) {
      expect(await find(host), host).toBeUndefined()
    }
  })

  it('for some repositories takes precedence over one for the whole registry', async () => {
    await keep({
      auths: {
        'a.example': { auth: base64('all:1') },
        'a.example/builds': { auth: base64('builds:2') },
      },
    })
    expect(await find('a.example')).toEqual(password('builds', '2'))
    expect(await find('a.example', {}, 'buildsandmore/x')).toEqual(password('all', '1'))
  })

  it('is searched in the files of the environment', async () => {
    const auths = (user: string) => ({ auths: { 'a.example': { auth: base64(`${user}:1`) } } })
    await keep(auths('podman'), 'auth.json')
    await mkdir(join(folder, '.docker'))
    await keep(auths('home'), '.docker/config.json')
    await keep(auths('docker'))
    const file = { REGISTRY_AUTH_FILE: join(folder, 'auth.json') }
    expect(await find('a.example', file)).toEqual(password('podman', '1'))
    expect(await find('a.example')).toEqual(password('docker', '1'))
    const absent = { REGISTRY_AUTH_FILE: join(folder, 'absent') }
    expect(await find('a.example', absent)).toEqual(password('docker', '1'))
    expect(await find('a.example', { DOCKER_CONFIG: '', HOME: folder })).toEqual(
      password('home', '1'),
    )
    const nowhere = { DOCKER_CONFIG: join(folder, 'absent') }
    expect(await find('a.example', nowhere)).toBeUndefined()
    await mkdir(join(folder, 'containers'))
    await keep(auths('runtime'), 'containers/auth.json')
    expect(await find('a.example', { ...nowhere, XDG_RUNTIME_DIR: folder })).toEqual(
      password('runtime', '1'),
    )
  })

  it('is read from a credential helper', async () => {
    await helper(
      'played',
      `read host; test "$1" = get || exit 3
       case "$host" in
         a.example*) echo '{"ServerURL":"a","Username":"orb","Secret":"kept"}';;
         b.example*) echo '{"Username":"<token>","Secret":"identity"}';;
         *) echo 'credentials not found in native keychain'; exit 1;;
       esac`,
    )
    await keep({ credsStore: 'played', auths: { 'a.example': {} } })
    expect(await find('a.example')).toEqual(password('orb', 'kept'))
    expect(await find('b.example')).toEqual({ kind: 'identity-token', token: 'identity' })
    expect(await find('c.example')).toBeUndefined()
    await keep({ credHelpers: { 'a.example': 'played' } })
    expect(await find('a.example')).toEqual(password('orb', 'kept'))
    expect(await find('b.example')).toBeUndefined()
  })

  it('that cannot be read is reported without its secret', async () => {
    await helper('broken', 'echo it is locked; exit 1')
    await helper('silent', 'echo nothing')
    const wrong: [config: unknown, right: RegExp][] = [
      ['{"auths": SECRET', /config\.json cannot be read: it is not JSON$/],
      ['[]', /it is not a JSON object$/],
      [`"${' '.repeat(1024 * 1024)}"`, /more than 1048576 bytes$/],
      [{ auths: { 'a.example': { auth: base64('SECRET') } } }, /is not user:password in base64$/],
      // Also when PATH has a folder that this user may not read.
      [{ credsStore: 'absent' }, /docker-credential-absent cannot be run: it is not installed/],
      [{ credsStore: 'broken' }, /docker-credential-broken failed: it is locked/],
      [{ credsStore: 'silent' }, /did not print JSON with Username and Secret$/],
      [{ credsStore: '../../bin/sh' }, /is not the name of a credential helper$/],
      [{ credHelpers: { 'a.example': '-x' } }, /is not the name of a credential helper$/],
    ]
    for (const [config, right] of wrong) {
      await keep(config)
      const found = find('a.example')
      await expect(found).rejects.toThrow(right)
      await expect(found).rejects.toBeInstanceOf(UnreadableLoginsError)
      await expect(found).rejects.not.toThrow(/SECRET/)
    }
  })
})
