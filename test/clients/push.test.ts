import { cp, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { mediaTypeOf, ROLES, type Role } from '../../src/unikernel/format.ts'
import { BUILD, ClientSandbox, hasClient, PASSWORD } from './client-sandbox.ts'

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
const CREATED = '2020-05-10T19:14:47Z'
const BUILDS = [
  'hello-key-1',
  'hello-key-2',
  'hello-key-3-freebsd-same-output',
  'hello-key-4-same-input-different-output',
]
/**
 * File names as orb has them; console and script, for which orb has no name, are given by options.
 */
const FILES: Readonly<Record<Role, string>> = {
  kernel: 'hello-key.hvt',
  'opam-switch': 'opam-switch',
  'opam-lock': 'mirage/hello-key-hvt.opam.locked',
  'system-packages': 'system-packages',
  'build-environment': 'build-environment',
  'build-hashes': 'hello-key.build-hashes',
  debug: 'hello-key.hvt.debug',
  console: 'console',
  readme: 'README.md',
  script: 'build.sh',
}

let sandbox: ClientSandbox

beforeAll(async () => {
  sandbox = await ClientSandbox.open()
})

afterAll(() => sandbox?.close())

const rookery = (...words: string[]) => sandbox.succeed(process.execPath, [MAIN, ...words])

/** Pushes with a login in a URL on standard input. */
function pushAsAdmin(folder: string, image: string, ...more: string[]): Promise<string> {
  const url = `http://admin:${encodeURIComponent(PASSWORD)}@${sandbox.host}/${image}`
  const push = `printf %s "$0" | "$@"`
  const words = [process.execPath, MAIN, 'push', folder, '-', ...more]
  return sandbox.succeed('bash', ['-c', push, url, ...words])
}

/** Pushes the same files with `oras push`, in the order of ROLES, and returns the digest. */
async function pushedByOras(folder: string, repository: string, more: readonly string[] = []) {
  const there = await readdir(folder)
  const files = ROLES.filter((role) => there.includes(FILES[role]))
  const printed = await sandbox.orasAsAdmin(
    [
      'push',
      '--format',
      'json',
      '--artifact-type',
      'application/vnd.unikernel.v1',
      '--annotation',
      `org.opencontainers.image.created=${CREATED}`,
      ...more,
      `${sandbox.host}/${repository}:live`,
      ...files.map((role) => `${FILES[role]}:${mediaTypeOf(role)}`),
    ],
    folder,
  )
  return JSON.parse(printed).digest as string
}

async function copied(name: string): Promise<string> {
  const folder = join(sandbox.folder, name)
  await cp(join(BUILD, '..', name), folder, { recursive: true })
  // oras writes folders into titles.
  await cp(join(folder, 'bin/hello-key.hvt'), join(folder, FILES.kernel))
  return folder
}

describe.runIf(hasClient('oras'))('rookery push', () => {
  it('makes the same image as oras of every build', async () => {
    for (const name of BUILDS) {
      const folder = await copied(name)
      const printed = await pushAsAdmin(folder, `own/${name}:live`, '--json')
      expect(JSON.parse(printed).digest, name).toBe(await pushedByOras(folder, `oras/${name}`))
    }
  })

  it('makes the same image as oras of a build with console, script and config', async () => {
    const folder = await copied('hello-key-1')
    const config = join(sandbox.folder, 'config.json')
    await cp(join(folder, 'README.md'), join(folder, FILES.console))
    await cp(join(folder, 'README.md'), join(folder, FILES.script))
    await sandbox.succeed('bash', ['-c', `printf '{"memory":32}' > ${config}`])
    const more = ['--console', join(folder, 'console'), '--script', join(folder, 'build.sh')]
    const options = ['--config', config, ...more, '--json']
    const printed = await pushAsAdmin(folder, 'own/more:live', ...options)
    const type = 'application/vnd.unikernel.config.v1+json'
    const digest = await pushedByOras(folder, 'oras/more', ['--config', `../config.json:${type}`])
    expect(JSON.parse(printed).digest).toBe(digest)
  })

  it('pushes files that oras pulled, with the login that oras stored', async () => {
    const folder = await copied('hello-key-2')
    const there = await readdir(folder)
    const oras = `printf %s '${PASSWORD}' | oras login --plain-http -u admin --password-stdin`
    await sandbox.succeed('bash', ['-c', `${oras} ${sandbox.host}`])
    await rookery('push', folder, `${sandbox.host}/own/pulled:live`)
    const place = `${sandbox.host}/own/pulled:live`
    await sandbox.oras(['pull', '--plain-http', '-o', 'pulled', place])
    const pulled = await readdir(join(sandbox.folder, 'pulled'))
    expect(pulled.sort()).toEqual(
      ROLES.map((role) => FILES[role])
        .filter((file) => there.includes(file))
        .sort(),
    )
    const kernel = await readFile(join(sandbox.folder, 'pulled', FILES.kernel))
    expect(kernel.equals(await readFile(join(folder, FILES.kernel)))).toBe(true)
  })

  it('of oras, undeclared as it is, is understood by rookery inspect', async () => {
    const folder = await copied('hello-key-1')
    const place = `${sandbox.host}/oras/plain:live`
    await sandbox.orasAsAdmin(['push', place, FILES.kernel, 'opam-switch'], folder)
    const shown = JSON.parse(await rookery('inspect', place, '--verify', '--json'))
    expect(shown).toMatchObject({
      target: 'hvt',
      missingInputs: ['build-environment', 'system-packages'],
      opam: { count: 43 },
    })
  })
})
