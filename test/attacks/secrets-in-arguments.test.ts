import { describe, expect, it } from 'vitest'
import { errorLine } from '../cli/operator.ts'

// The commands refuse the argument before they open a registry.
const nothing = { settings: {} }
const SECRET = 'eyJhbGciOiJFUzI1NiJ9.eyJzZWNyZXQiOjF9.c2VjcmV0'

describe('a secret in the arguments of a command', () => {
  it.each([
    ['login-url', `https://u:${SECRET}@registry.example.org`],
    ['token', 'revoke', SECRET],
    ['policy', 'test', SECRET],
  ])(
    'is refused by rookery %s, which names standard input and does not repeat it',
    async (...words) => {
      const line = await errorLine(nothing, ...words)
      expect(line).toContain('on standard input, with - in its place')
      expect(line).not.toContain(SECRET)
    },
  )
})
