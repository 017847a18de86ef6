import { execFile } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { UsageError } from '../../src/cli/errors.ts'
import { parseLoginUrl } from '../../src/cli/registry/login.ts'
import { startRegistry } from '../support/registry.ts'
import { basic, errorLine, printedFor, printedJson, pushStatus } from './operator.ts'

// The command needs no database, and ignores a wrong setting.
const nothing = { settings: { ROOKERY_NONSENSE: 'x' } }
const PASSWORD = `it's "$(id)" \`id\` \${HOME} \\n %41 !! #?/@: *é ;&|<>~`

let folder: string

/** Fake clients: each records its arguments and its standard input. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-login-'))
  for (const name of ['curl', 'oras', 'docker']) {
    const script = `#!/bin/sh\nprintf '%s\\0' "$@" > '${folder}/${name}.arguments'\ncat > '${folder}/${name}.stdin'\n`
    await writeFile(join(folder, name), script)
    await chmod(join(folder, name), 0o755)
  }
})

afterAll(() => rm(folder, { recursive: true }))

/** The login in curl's configuration, as curl reads it. */
function loginOf(config: string): string {
  expect(config).toMatch(/^user = "(?:[^"\\]|\\["\\])*"$/)
  return config.slice('user = "'.length, -1).replace(/\\(.)/g, '$1')
}

/** Runs the lines in a shell. Returns the arguments and the input of each client. */
async function pasted(lines: string, shell: string) {
  const env = { PATH: `${folder}:${process.env.PATH}`, HOME: '/nowhere' }
  const [command = '', ...options] = shell.split(' ')
  const words = [...options, '-eu', '-c', lines]
  const { stderr } = await promisify(execFile)(command, words, { env })
  expect(stderr).toBe('')
  const received = async (file: string) => readFile(join(folder, file), 'utf8')
  const wordsOf = async (name: string) =>
    (await received(`${name}.arguments`)).split('\0').slice(0, -1)
  return {
    curl: { words: await wordsOf('curl'), login: loginOf(await received('curl.stdin')) },
    oras: { words: await wordsOf('oras'), stdin: await received('oras.stdin') },
    docker: { words: await wordsOf('docker'), stdin: await received('docker.stdin') },
  }
}

const urlOf = (user: string, password: string, rest: string) =>
  `${rest.replace('//', `//${encodeURIComponent(user)}:${encodeURIComponent(password)}@`)}`

/** The output of `login-url` for a URL on standard input. */
async function printedWith(
  registry: Parameters<typeof printedFor>[0],
  url: string,
  ...rest: string[]
) {
  const { status, stdout } = await printedFor(registry, url, 'login-url', '-', ...rest)
  expect(status).toBe(0)
  return stdout
}

describe('rookery login-url', () => {
  it.each([
    ['sh', 'orb-1', `rky_${'a'.repeat(43)}_0123abcd`],
    ['sh', '-u it', PASSWORD],
    ['bash --norc', "o'rb$1", `${PASSWORD}'`],
    ['bash --norc', 'é', "'''"],
    ['sh', 'x', '-'],
  ])('prints lines that pass to a client in %s the user %j and its password', async (...row) => {
    const [shell, user, password] = row
    const url = urlOf(user, password, 'http://registry.example.org:5000/builds/www:v1')
    const { curl, oras, docker } = await pasted(await printedWith(nothing, url), shell)
    const host = 'registry.example.org:5000'
    expect(curl).toEqual({
      words: ['-sS', '--fail-with-body', '-K', '-', `http://${host}/v2/`],
      login: `${user}:${password}`,
    })
    expect(oras).toEqual({
      words: ['login', '--plain-http', '-u', user, '--password-stdin', host],
      stdin: password,
    })
    expect(docker).toEqual({
      words: ['login', '-u', user, '--password-stdin', host],
      stdin: password,
    })
    expect(JSON.parse(await printedWith(nothing, url, '--json'))).toEqual({
      host,
      plainHttp: true,
      username: user,
      password,
      repository: 'builds/www',
      reference: 'v1',
    })
  })

  it('quotes the host for the shell', async () => {
    const { curl, oras } = await pasted(
      await printedWith(nothing, "https://u:p@a$(touch$IFSx);'b'`c`&"),
      'sh',
    )
    expect(curl.words.at(-1)).toBe("https://a$(touch$ifsx);'b'`c`&/v2/")
    expect(oras.words).not.toContain('--plain-http')
  })

  it.each([
    ['https://u:p@h', { host: 'h', plainHttp: false }],
    ['https://u:p@h:443/', { host: 'h' }],
    ['http://u:p@[::1]:5000/a', { host: '[::1]:5000', repository: 'a' }],
    ['https://u:p@h/a/b/', { repository: 'a/b' }],
    [`https://u:p@h/a@sha256:${'0'.repeat(64)}`, { reference: `sha256:${'0'.repeat(64)}` }],
    ['https://u:a@b@h', { password: 'a@b' }],
  ])('parses %s', (url, answer) => {
    expect(parseLoginUrl(url)).toMatchObject(answer)
  })

  it.each([
    ['registry.example.org'],
    ['ftp://u:secret@h'],
    ['https://h/a'],
    ['https://secret@h/a'],
    ['https://u:sec/ret@h'],
    ['https://u:12#secret@h'],
    ['https://u:12?secret@h'],
    ['https://u:12\\secret@h'],
    ['https://u:secret%zz@h'],
    ['https://u:secret%ff@h'],
    ['https://u:secret%0a@h'],
    ['https://u:sec\nret@h'],
    ['https://u%3ax:secret@h'],
    ['https://u:secret@h/A'],
    ['https://u:secret@h/a:b:c'],
    ['https://u:secret@h/a@sha256:1'],
    ['https://u:secret@h/%'],
    [`https://u:secret@h/${'a'.repeat(100_000)}`],
  ])('refuses a malformed URL (%#), and does not repeat it', (url) => {
    expect(() => parseLoginUrl(url)).toThrow(UsageError)
    expect(() => parseLoginUrl(url)).not.toThrow('secret')
  })

  it('reads the URL from standard input', async () => {
    const { status, stdout } = await printedFor(nothing, 'https://u:p@h\n', 'login-url', '-')
    expect(status).toBe(0)
    expect(stdout).toContain("docker login -u 'u' --password-stdin 'h'")
    expect((await printedFor(nothing, '', 'login-url', '-')).status).toBe(2)
  })

  it('requires one URL, and reports an error in one line', async () => {
    expect(await errorLine(nothing, 'login-url', 'https://u:sec/ret@h')).not.toContain('ret@')
    await errorLine(nothing, 'login-url')
    await errorLine(nothing, 'login-url', 'https://u:p@h', 'https://u:p@h')
  })

  it('reads the URL of credential create, and its logins work', async () => {
    const registry = await startRegistry({ ROOKERY_ADMIN_PASSWORD: PASSWORD })
    try {
      const url = urlOf('admin', PASSWORD, registry.url)
      const { curl } = await pasted(await printedWith(registry, url), 'sh')
      const [user = '', ...password] = curl.login.split(':')
      expect(await pushStatus(registry, 'a', basic(user, password.join(':')))).toBe(202)
      const words = ['credential', 'create', 'orb', '--repository', 'a']
      const made = await printedJson(registry, ...words)
      const handedOver = made.url.replace('127.0.0.1:0', new URL(registry.url).host)
      const { username, password: secret } = JSON.parse(
        await printedWith(registry, handedOver, '--json'),
      )
      expect(await pushStatus(registry, 'a', basic(username, secret))).toBe(202)
    } finally {
      await registry.close()
    }
  })
})
