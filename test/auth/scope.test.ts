import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  ACTIONS,
  type Action,
  ANONYMOUS,
  allows,
  allowsTag,
  type Caller,
  type Grant,
  listablePatterns,
} from '../../src/auth/access.ts'
import { grantsOf, intersect, parseScopes, repositoriesOf } from '../../src/auth/scope.ts'
import { type Glob, matchesAnyGlob } from '../../src/oci/glob.ts'
import type { Repository, Tag } from '../../src/oci/reference.ts'

const IDENTITY = {
  actor: 'builder',
  origin: 'credential:7',
  tokenId: undefined,
  keyId: undefined,
  scheme: 'basic',
} as const

const ADMIN: Caller = { ...IDENTITY, kind: 'admin' }

const holder = (...grants: Grant[]): Caller => ({
  ...IDENTITY,
  kind: 'holder',
  grants,
  expiredAt: undefined,
})

const grant = (
  repositories: string[],
  actions: readonly Action[],
  tags: string[] | null = null,
): Grant => ({ repositories: repositories as Glob[], actions, tags: tags as Glob[] | null })

const nothingPublic = () => false
const everythingPublic = () => true

describe('a scope', () => {
  it.each([
    ['repository:a/b:pull', [['repository', 'a/b', ['pull']]]],
    ['repository:a/b:pull,push', [['repository', 'a/b', ['pull', 'push']]]],
    ['repository:a/b:*', [['repository', 'a/b', ['*']]]],
    ['repository(plugin):a/b:pull', [['repository', 'a/b', ['pull']]]],
    ['registry:catalog:*', [['registry', 'catalog', ['*']]]],
    ['repository:localhost:5000/a:pull', [['repository', 'localhost:5000/a', ['pull']]]],
    ['repository:a:', [['repository', 'a', []]]],
    ['repository:a:pull,,push,', [['repository', 'a', ['pull', 'push']]]],
    [
      'repository:a:pull repository:b:push',
      [
        ['repository', 'a', ['pull']],
        ['repository', 'b', ['push']],
      ],
    ],
    ['  repository:a:pull   ', [['repository', 'a', ['pull']]]],
    ['', []],
    ['repository', []],
    ['repository:a', []],
    ['Repository:a:pull', []],
    ['repository:a:PULL', []],
    ['repository:a:pull push', [['repository', 'a', ['pull']]]],
    ['repository:a\tb:pull', []],
  ])('reads %j', (text, scopes) => {
    const read = parseScopes([text])
    expect(read.map(({ type, name, actions }) => [type, name, actions])).toEqual(scopes)
  })

  it('is one of at most 100, in one parameter or in many', () => {
    const many = Array.from({ length: 1000 }, (_, index) => `repository:a${index}:pull`)
    expect(parseScopes(many)).toHaveLength(100)
    expect(parseScopes([many.join(' ')])).toEqual(parseScopes(many))
  })

  it('is parsed in linear time', () => {
    const started = process.cpuUsage()
    for (const part of [':', 'a:', 'a', ',', ':a,', '(', 'a(']) {
      for (const end of ['', '!', ':', ':pull!']) {
        parseScopes([`repository:${part.repeat(60_000)}${end}`])
      }
    }
    expect(process.cpuUsage(started).user / 1e6).toBeLessThan(5)
  })

  it('names repositories once, and only valid ones', () => {
    const texts = ['a/b', 'a/b', 'UPPER', 'a//b', '../a', 'a/*', '', 'c', 'a\0b']
    const scopes = parseScopes(texts.map((name) => `repository:${name}:pull`))
    expect(repositoriesOf(scopes)).toEqual(['a/b', 'c'])
  })
})

describe('granted access', () => {
  const granted = (caller: Caller, isPublic = nothingPublic, ...texts: string[]) =>
    intersect(parseScopes(texts), caller, isPublic).map(
      ({ type, name, actions, tags }) =>
        `${type}:${name}:${actions.join()}${tags === undefined ? '' : `:${tags.join()}`}`,
    )
  const builder = holder(grant(['builds/**'], ['pull', 'push'], ['v*']))
  const both = holder(grant(['a/*'], ['push'], ['v*']), grant(['a/b'], ['push', 'pull'], ['edge']))

  it.each([
    ['nobody', ANONYMOUS, 'repository:a:pull,push', []],
    ['a builder', builder, 'repository:builds/a:pull', ['repository:builds/a:pull:v*']],
    ['a builder', builder, 'repository:builds/a:*', ['repository:builds/a:pull,push:v*']],
    ['a builder', builder, 'repository:builds/a:delete,admin', []],
    ['a builder', builder, 'repository:builds:pull', []],
    ['a builder', builder, 'repository:builds/**:pull', []],
    ['a builder', builder, 'registry:admin:*', []],
    ['a builder', builder, 'registry:catalog:*', ['registry:catalog:*']],
    ['a builder', builder, 'registry:catalog:pull', []],
    ['a builder', builder, 'registry:other:*', []],
    ['a builder', builder, 'other:builds/a:pull', []],
    ['an administrator', ADMIN, 'repository:a:*', ['repository:a:pull,push,delete']],
    ['an administrator', ADMIN, 'repository:a:*,admin', ['repository:a:pull,push,delete,admin']],
    ['an administrator', ADMIN, 'repository:a:fly', []],
    ['an administrator', ADMIN, 'registry:admin:*', ['registry:admin:*']],
    [
      'a caller with two grants',
      both,
      'repository:a/b:push,pull',
      ['repository:a/b:push:v*', 'repository:a/b:pull,push:edge'],
    ],
  ])('to %s (%#) is at most the access of the caller', (_who, caller, text, expected) => {
    expect(granted(caller as Caller, nothingPublic, text as string)).toEqual(expected)
  })

  it('includes pulls from public repositories', () => {
    for (const caller of [ANONYMOUS, builder]) {
      expect(granted(caller, everythingPublic, 'repository:open:pull,push')).toEqual([
        'repository:open:pull',
      ])
      expect(granted(caller, everythingPublic, 'repository:open:push')).toEqual([])
    }
  })

  it('to a public repository is no grant of the holder', () => {
    const access = intersect(parseScopes(['repository:open:pull']), builder, everythingPublic)
    expect(access).toMatchObject([{ name: 'open', public: true }])
    expect(grantsOf(access)).toEqual([])
  })
})

const NAMES = ['a', 'a/b', 'a/b/c', 'b', 'b/a'] as Repository[]
const TAGS = ['v1', 'v2', 'edge', 'latest'] as Tag[]

const anyGrant = fc.record({
  repositories: fc.subarray(['a', 'a/*', 'a/**', '**', '*/b', 'b/*'] as Glob[], { minLength: 1 }),
  actions: fc.subarray([...ACTIONS], { minLength: 1 }),
  tags: fc.option(fc.subarray(['v*', 'edge', '*', 'v1'] as Glob[], { minLength: 1 })),
})
const anyScope = fc
  .tuple(fc.constantFrom(...NAMES, 'registry:catalog'), fc.subarray([...ACTIONS, '*', 'fly']))
  .map(([name, actions]) =>
    name === 'registry:catalog' ? `${name}:*` : `repository:${name}:${actions.join()}`,
  )

describe('a token of any credential, requested with any scopes', () => {
  it('permits the requested actions that the credential has, and no others', () => {
    fc.assert(
      fc.property(fc.array(anyGrant, { maxLength: 3 }), fc.array(anyScope), (grants, texts) => {
        const caller = holder(...grants)
        const token = holder(...grantsOf(intersect(parseScopes(texts), caller, nothingPublic)))
        for (const name of NAMES) {
          for (const action of ACTIONS) {
            const asked = texts.some((text) => {
              const [, of, actions = ''] = text.split(':')
              const all = actions.split(',').includes('*') && action !== 'admin'
              return of === name && (all || actions.split(',').includes(action))
            })
            const may = allows(caller, action, name)
            expect(allows(token, action, name)).toBe(asked && may)
            for (const tag of TAGS) {
              const mayTag = allowsTag(caller, action, name, tag)
              expect(allowsTag(token, action, name, tag)).toBe(asked && mayTag)
            }
          }
        }
      }),
      { numRuns: 500 },
    )
  })

  it('never has more access than the token that requested it, over any number of requests', () => {
    fc.assert(
      fc.property(
        fc.array(anyGrant, { maxLength: 2 }),
        fc.array(fc.array(anyScope, { maxLength: 6 }), { minLength: 2, maxLength: 3 }),
        (grants, asks) => {
          let held = holder(...grants)
          for (const texts of asks) {
            const before = held
            held = holder(...grantsOf(intersect(parseScopes(texts), before, nothingPublic)))
            for (const name of NAMES) {
              for (const action of ACTIONS) {
                if (allows(held, action, name)) expect(allows(before, action, name)).toBe(true)
              }
            }
            for (const name of NAMES) {
              const shows = (caller: Caller) => matchesAnyGlob(listablePatterns(caller), name)
              if (shows(held)) expect(shows(before)).toBe(true)
            }
          }
        },
      ),
      { numRuns: 300 },
    )
  })
})
