import { SignJWT } from 'jose'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { generateSecret } from '../../src/auth/secrets.ts'
import { listEntries } from '../../src/cli/command-entry.ts'
import { COMMAND_GROUPS } from '../../src/cli/command-index.ts'
import { flagOf } from '../../src/cli/parser.ts'
import { runCommand } from '../../src/cli/run.ts'
import { errorLine } from '../cli/operator.ts'

// The commands refuse the argument before they open a registry.
const nothing = { settings: {} }
const SECRET = 'eyJhbGciOiJFUzI1NiJ9.eyJzZWNyZXQiOjF9.c2VjcmV0'

describe('a secret in the arguments of a command', () => {
  it.each([
    ['login-url', `https://u:${SECRET}@registry.example.org`],
    ['token', 'revoke', SECRET],
    ['policy', 'test', SECRET],
    ['push', '.', `https://orb-1:${generateSecret()}@registry.example.org/a:v1`],
    ['inspect', 'https://orb-1:a%20password@registry.example.org/a:v1'],
    ['webhook', 'create', 'deploy', 'https://user:password@deploy.example.org/hook'],
    ['events', `https://orb-1:${SECRET}@registry.example.org`],
  ])(
    'is refused by rookery %s, which names standard input and does not repeat it',
    async (...words) => {
      const line = await errorLine(nothing, ...words)
      expect(line).toContain('on standard input, with - in its place')
      for (const word of words.slice(1)) {
        if (word.length > 20) expect(line).not.toContain(word.slice(-40, -20))
      }
    },
  )

  it('is refused by --header, which takes the value from standard input', async () => {
    const create = ['webhook', 'create', 'x', 'https://a.example/', '--repository', '**']
    for (const name of ['Authorization', 'Cookie', 'X-Api-Key', 'X-Gitlab-Token']) {
      const line = await errorLine(nothing, ...create, '--header', `${name}: S3CRET`)
      expect(line).toContain(`with --header '${name}: -'`)
      expect(line).not.toContain('S3CRET')
    }
  })

  it('is refused by --body, which takes its JSON from standard input', async () => {
    const create = ['webhook', 'create', 'x', 'https://a.example/', '--repository', '**']
    for (const body of [{ token: 'S3CRET' }, { inputs: [{ api_key: 'S3CRET' }] }]) {
      const line = await errorLine(nothing, ...create, '--body', JSON.stringify(body))
      expect(line).toContain('on standard input, with --body -')
      expect(line).not.toContain('S3CRET')
    }
  })
})

describe('every command of the index', () => {
  let output = ''
  beforeEach(() => {
    output = ''
    for (const stream of [process.stderr, process.stdout]) {
      vi.spyOn(stream, 'write').mockImplementation((text) => {
        output += String(text)
        return true
      })
    }
  })
  afterEach(() => vi.restoreAllMocks())

  it.each(listEntries(COMMAND_GROUPS))('refuses secrets everywhere: $name', async (entry) => {
    const command = await entry.load()
    const name = entry.name.split(' ')
    const valued = Object.entries(command.options).filter(([, { label }]) => label !== undefined)
    const places: ((secret: string) => string[])[] = [
      ...Object.keys(command.arguments).map((_, index) => (secret: string) => [
        ...Array.from({ length: index }, () => 'x'),
        secret,
      ]),
      ...valued.map(([key]) => (secret: string) => [flagOf(key), secret]),
      ...valued.map(([key]) => (secret: string) => [`${flagOf(key)}=${secret}`]),
    ]
    const secrets = [
      generateSecret(),
      generateSecret('refresh'),
      generateSecret('uploadUrl'),
      `http://127.0.0.1:5000/upload/${generateSecret('uploadUrl')}`,
      SECRET,
      `Authorization: Bearer ${SECRET}`,
      'https://user:password@registry.example.org/a/b:v1',
      `https://token:${SECRET}@registry.example.org/a/b:v1`,
      'postgres://rookery:password@db.example.org/rookery',
    ]
    for (const place of places) {
      for (const secret of secrets) {
        const words = place(secret)
        expect(await runCommand([...name, ...words], {}), words.join(' ')).toBe(2)
        expect(output).toMatch(/all users of this machine can read arguments/)
        expect(output).not.toContain(secret)
        expect(output).not.toMatch(/password@|c2VjcmV0/)
        output = ''
      }
    }
  })

  it('accepts a URL with a token for a day, which is made to be handed over', async () => {
    const key = new TextEncoder().encode('a key of the test, which is long enough')
    const token = (seconds: number) =>
      new SignJWT({ exp: Math.floor(Date.now() / 1000) + seconds })
        .setProtectedHeader({ alg: 'HS256' })
        .sign(key)
    const push = (secret: string) =>
      runCommand(['push', '/nowhere', `https://token:${secret}@registry.example.org/a:v1`], {})
    expect(await push(await token(3600))).toBe(2)
    expect(output).toMatch(/nowhere/)
    output = ''
    expect(await push(await token(30 * 86_400))).toBe(2)
    expect(output).toMatch(/all users of this machine can read arguments/)
  })
})
