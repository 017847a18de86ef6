import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startIssuer, type TestIssuer } from './issuer.ts'
import { ACTOR, openTrust, policyRequest, resultOf, type Trust } from './trust-policies.ts'

let trust: Trust
let issuer: TestIssuer

beforeAll(async () => {
  trust = await openTrust()
  issuer = await startIssuer()
})

afterAll(async () => {
  await issuer.close()
  await trust.close()
})

describe('a trust policy', () => {
  it('is created, read, listed and removed, and each change is in the audit log', async () => {
    const request = policyRequest(issuer, {
      name: 'kernels',
      conditions: { repository: 'octo/*', ref: ['refs/heads/main', 'refs/tags/**'] },
      tags: ['v*'],
      tokenSeconds: 60,
    })
    const policy = await trust.policies.create(request, ACTOR)
    expect(policy).toEqual({
      name: 'kernels',
      issuer: issuer.url,
      audience: 'https://registry.example',
      conditions: { repository: ['octo/*'], ref: ['refs/heads/main', 'refs/tags/**'] },
      repositories: ['builds/octo'],
      actions: ['pull', 'push'],
      tags: ['v*'],
      tokenSeconds: 60,
      createdBy: 'tester',
      createdAt: expect.any(Date),
      warnings: [],
    })
    expect(await trust.policies.requireByName('kernels')).toEqual(policy)
    expect(await trust.policies.list('', 10)).toEqual([policy])
    expect(await trust.policies.list('kernels', 10)).toEqual([])
    await trust.policies.remove('kernels', ACTOR)
    expect(await trust.policies.list('', 10)).toEqual([])
    expect(
      await trust.rows('select action, actor, decision, detail from audit order by id'),
    ).toEqual([
      { action: 'create-policy', actor: 'tester', decision: 'allowed', detail: 'kernels' },
      { action: 'remove-policy', actor: 'tester', decision: 'allowed', detail: 'kernels' },
    ])
  })

  it('that is removed revokes its tokens, and its name is free again', async () => {
    const request = policyRequest(issuer, { conditions: { repository: 'octo/again' } })
    const exchanged = async () =>
      trust.policies.exchange(await issuer.token({ repository: 'octo/again' }))
    await trust.policies.create(request, ACTOR)
    const first = await exchanged()
    await trust.policies.remove(request.name, ACTOR)
    const revoked = `select subject, expires_at > now() + interval '1 day' as long
                       from revocations where subject = '${first.origin}'`
    expect(await trust.rows(revoked)).toEqual([{ subject: first.origin, long: true }])
    expect(await resultOf(exchanged())).toMatchObject({ code: 'UNAUTHORIZED' })
    await trust.policies.create(request, ACTOR)
    expect((await exchanged()).origin).not.toBe(first.origin)
    await trust.policies.remove(request.name, ACTOR)
  })

  it('with a name that is in use, or unknown, is an error', async () => {
    const request = policyRequest(issuer)
    await trust.policies.create(request, ACTOR)
    expect(await resultOf(trust.policies.create(request, ACTOR))).toEqual({
      code: 'CONFLICT',
      message: `there is a trust policy named ${request.name}: remove it first, or choose another name`,
    })
    for (const name of ['missing', '', 'a\0b', '../x', 'x'.repeat(5000)]) {
      const absent = {
        code: 'NOT_FOUND',
        message: expect.stringContaining('there is no trust policy'),
      }
      expect(await resultOf(trust.policies.requireByName(name))).toEqual(absent)
      expect(await resultOf(trust.policies.remove(name, ACTOR))).toEqual(absent)
    }
    await trust.policies.remove(request.name, ACTOR)
  })

  it('is refused with the reason when a field is invalid', async () => {
    const many = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`claim-${index}`, 'x']))
    const wrong: [Parameters<typeof policyRequest>[1], string][] = [
      [{ name: '' }, 'a name must consist'],
      [{ name: 'Big' }, 'a name must consist'],
      [{ name: 'admin' }, 'a name must consist'],
      ...[
        '',
        'octo',
        'octo.example',
        'ftp://octo.example',
        'file:///etc/passwd',
        ' https://octo.example',
        'https://octo.example\0',
        'https://octo.example/?a=b',
        'https://octo.example/#a',
        'https://octo.example/?',
        'https://öcto.example',
        `https://octo.example/${'x'.repeat(600)}`,
      ].map((url): [object, string] => [{ issuer: url }, 'an issuer must be the URL']),
      [{ issuer: 'https://user:secret@octo.example' }, 'no user name and no password'],
      [{ issuer: 'https://octo.example./' }, 'does not end with a dot'],
      [{ issuer: 'https://10.0.0.1' }, 'neither a public address'],
      [{ issuer: 'https://169.254.169.254/' }, 'ask the operator'],
      [{ issuer: 'http://8.8.8.8/' }, 'plain http'],
      ...['', 'a\0b', 'a\nb', 'x'.repeat(256)].map((audience): [object, string] => [
        { audience },
        'an audience must be',
      ]),
      ...[undefined, null, 7, 'repository=octo', ['octo']].map((conditions): [object, string] => [
        { conditions },
        'conditions must be an object',
      ]),
      [{ conditions: {} }, 'conditions must have 1 to 32'],
      [{ conditions: many(33) }, 'conditions must have 1 to 32'],
      [{ conditions: { repository: '**' } }, '* matches any value'],
      [{ conditions: { repository: ['octo/*', '*'], ref: '*' } }, '* matches any value'],
      [{ conditions: { repository: [] } }, 'must have 1 to 32 patterns'],
      [{ conditions: { repository: Array(33).fill('octo') } }, 'must have 1 to 32 patterns'],
      [{ conditions: { repository: 7 } }, 'must be a string'],
      [{ conditions: { repository: null } }, 'must be a string'],
      [{ conditions: { repository: { glob: 'x' } } }, 'must be a string'],
      [{ conditions: { repository: [['octo']] } }, 'must be a string'],
      [{ conditions: { repository: 'a\0' } }, 'must be a string'],
      [{ conditions: { repository: '\ud800' } }, 'must be a string'],
      [{ conditions: { repository: '' } }, 'a condition is a value'],
      [{ conditions: { repository: 'x'.repeat(256) } }, 'a condition is a value'],
      [{ conditions: { '': 'octo' } }, 'a condition must name a claim'],
      [{ conditions: { 'a\0': 'octo' } }, 'a condition must name a claim'],
      [{ conditions: { '\udfff': 'octo' } }, 'a condition must name a claim'],
      [{ conditions: { '/a~2b': 'octo' } }, 'a condition must name a claim'],
      [{ conditions: { '/a~': 'octo' } }, 'a condition must name a claim'],
      [{ conditions: { ['x'.repeat(256)]: 'octo' } }, 'a condition must name a claim'],
      [{ repositories: [] }, 'at least one repository'],
      [{ repositories: ['UPPER'] }, 'a repository pattern'],
      [{ actions: [] }, 'one action'],
      [{ actions: ['own'] }, 'an action must be one of'],
      [{ tags: [] }, 'leave tags out'],
      ...[0, -1, 3601, 1.5, Number.NaN].map((tokenSeconds): [object, string] => [
        { tokenSeconds },
        'tokenSeconds must be from 1 to 3600',
      ]),
    ]
    for (const [changes, message] of wrong) {
      const request = policyRequest(issuer, changes)
      expect(
        await resultOf(trust.policies.create(request, ACTOR)),
        JSON.stringify(changes),
      ).toEqual({
        code: 'REQUEST_INVALID',
        message: expect.stringContaining(message),
      })
    }
    expect(await trust.policies.list('', 10)).toEqual([])
  })

  it('accepts an http issuer only in allowed networks, and an https issuer anywhere', async () => {
    const closed = trust.another([])
    for (const [policies, url, code] of [
      [closed, 'http://127.0.0.1:8080', 'REQUEST_INVALID'],
      [closed, 'http://gitlab.example', 'REQUEST_INVALID'],
      [closed, 'https://127.0.0.1:8080', 'REQUEST_INVALID'],
      [closed, 'https://gitlab.example', undefined],
      [closed, 'https://8.8.8.8', undefined],
      [trust.policies, 'http://127.0.0.1:8080', undefined],
      [trust.policies, 'https://127.0.0.1:8080', undefined],
      [trust.policies, 'http://gitlab.example/', undefined],
      [trust.policies, 'http://10.0.0.1', 'REQUEST_INVALID'],
    ] as const) {
      const request = policyRequest(issuer, { issuer: url })
      const made = await resultOf(policies.create(request, ACTOR))
      expect('code' in made ? made.code : undefined, url).toBe(code)
      if (code === undefined) await trust.policies.remove(request.name, ACTOR)
    }
  })
})

describe('a match of a policy', () => {
  afterEach(async () => {
    for (const { name } of await trust.policies.list('', 100)) {
      await trust.policies.remove(name, ACTOR)
    }
  })

  it('gives the grant of the policy, with its name and the subject of the token', async () => {
    const request = policyRequest(issuer, {
      tags: ['v*'],
      tokenSeconds: 1200,
      actions: ['delete', 'push'],
    })
    await trust.policies.create(request, ACTOR)
    expect(await trust.policies.exchange(await issuer.token())).toEqual({
      actor: `${request.name}/repo:octo/kernel:ref:refs/heads/main`,
      origin: expect.stringMatching(/^policy:\d+$/),
      grants: [{ repositories: ['builds/octo'], actions: ['push', 'delete'], tags: ['v*'] }],
      tokenSeconds: 1200,
    })
  })

  it('depends on each claim', async () => {
    const cases: [conditions: Record<string, string | string[]>, holds: boolean][] = [
      [{ repository: 'octo/kernel' }, true],
      [{ repository: 'octo/*' }, true],
      [{ repository: '*/kernel' }, true],
      [{ repository: 'octo/k*l' }, true],
      [{ repository: 'octo' }, false],
      [{ repository: 'octo*' }, false],
      [{ repository: 'octo**' }, true],
      [{ repository: 'Octo/kernel' }, false],
      [{ repository: 'octo/kernel ' }, false],
      [{ repository: 'octo/kernels' }, false],
      [{ repository: 'evil/octo/kernel' }, false],
      [{ repository: ['evil/x', 'octo/kernel'] }, true],
      [{ repository: ['evil/x', 'evil/y'] }, false],
      [{ repository: 'octo/kernel', ref: 'refs/heads/main' }, true],
      [{ repository: 'octo/kernel', ref: 'refs/heads/other' }, false],
      [{ repository: 'octo/kernel', missing: '*' }, false],
      [{ ref_protected: 'true' }, true],
      [{ ref_protected: 'false' }, false],
      [{ run_attempt: '2' }, true],
      [{ run_attempt: '2.0' }, false],
      [{ groups: 'builders' }, true],
      [{ groups: 'octo/*' }, true],
      [{ groups: '7' }, true],
      [{ groups: 'builders,octo/admins,7' }, false],
      [{ groups: 'admins' }, false],
      [{ nothing: 'null' }, false],
      [{ nothing: '**x' }, false],
      [{ 'kubernetes.io': '**o**' }, false],
      [{ 'https://example.org/claim': 'named by a URL' }, true],
      [{ '/repository': 'octo/kernel' }, true],
      [{ '/kubernetes.io/namespace': 'ci' }, true],
      [{ '/kubernetes.io/namespace': 'cd' }, false],
      [{ '/kubernetes.io/pod/a~1b': 'slash' }, true],
      [{ '/kubernetes.io/pod/a~0b': 'tilde' }, true],
      [{ '/kubernetes.io/pod/a/b': 'slash' }, false],
      [{ '/kubernetes.io/list': 'y' }, true],
      [{ '/kubernetes.io/list/0': 'x' }, true],
      [{ '/kubernetes.io/list/0': 'y' }, false],
      [{ '/kubernetes.io/list/00': 'x' }, false],
      [{ '/kubernetes.io/list/length': '2' }, false],
      [{ '/kubernetes.io/list/-': 'y' }, false],
      [{ '/repository/length': '11' }, false],
      [{ '/': 'octo/kernel' }, false],
      [{ 'kubernetes.io/namespace': 'ci' }, false],
      [{ constructor: 'a**' }, false],
      [{ '/constructor/name': 'Object' }, false],
      [{ toString: 'f**' }, false],
    ]
    for (const [conditions, holds] of cases) {
      const request = policyRequest(issuer, { conditions })
      await trust.policies.create(request, ACTOR)
      const came = await resultOf(trust.policies.exchange(await issuer.token()))
      expect('actor' in came, JSON.stringify(conditions)).toBe(holds)
      if (!holds) expect(came).toEqual(NO_MATCH)
      await trust.policies.remove(request.name, ACTOR)
    }
  })

  it('ignores values that are too long, and stays fast', async () => {
    await trust.policies.create(
      policyRequest(issuer, { conditions: { ref: `${'*a'.repeat(100)}b` } }),
      ACTOR,
    )
    await trust.policies.create(policyRequest(issuer, { conditions: { ref: 'a**' } }), ACTOR)
    const short = await resultOf(
      trust.policies.exchange(await issuer.token({ ref: 'a'.repeat(1024) })),
    )
    expect(short).toMatchObject({ actor: expect.any(String) })
    const long = await resultOf(
      trust.policies.exchange(await issuer.token({ ref: 'a'.repeat(1025) })),
    )
    expect(long).toEqual(NO_MATCH)
  })

  it('requires the audience of the token, or one of several', async () => {
    await trust.policies.create(policyRequest(issuer), ACTOR)
    const right = 'https://registry.example'
    for (const [aud, holds] of [
      [right, true],
      [[right], true],
      [['sigstore', right], true],
      [[right, 7], true],
      [`${right}/`, false],
      [`${right} sigstore`, false],
      [right.toUpperCase(), false],
      [['sigstore'], false],
      [[], false],
      [undefined, false],
      [[[right]], false],
      [{ [right]: right }, false],
    ] as const) {
      const token = await issuer.token({ aud })
      const came = await resultOf(trust.policies.exchange(token))
      expect('actor' in came, JSON.stringify(aud)).toBe(holds)
      if (!holds) expect(came).toEqual(NO_MATCH)
    }
  })

  it('applies only the first policy that matches, by name', async () => {
    const names: [string, object][] = [
      ['b-second', { repository: 'octo/*' }],
      ['c-third', { repository: 'octo/kernel' }],
      ['a-first', { repository: 'octo/other' }],
    ]
    for (const [name, conditions] of names) {
      const repositories = [`builds/${name}`]
      await trust.policies.create(policyRequest(issuer, { name, conditions, repositories }), ACTOR)
    }
    const { actor, grants } = await trust.policies.exchange(await issuer.token())
    expect(actor).toMatch(/^b-second\//)
    expect(grants.flatMap(({ repositories }) => repositories)).toEqual(['builds/b-second'])
  })

  it('requires exactly the issuer: an additional slash is another issuer', async () => {
    const slashed = await startIssuer('/')
    await trust.policies.create(policyRequest(slashed), ACTOR)
    expect(await trust.policies.exchange(await slashed.token())).toHaveProperty('actor')
    const without = await slashed.token({ iss: slashed.url.slice(0, -1) })
    expect(await resultOf(trust.policies.exchange(without))).toEqual(NO_MATCH)
    const deep = await startIssuer('/realms/octo')
    await trust.policies.create(policyRequest(deep), ACTOR)
    expect(await trust.policies.exchange(await deep.token())).toHaveProperty('actor')
    expect(deep.requests).toEqual(['/realms/octo/.well-known/openid-configuration', '/keys'])
    await Promise.all([slashed.close(), deep.close()])
  })

  it('names the actor briefly, and without invisible characters', async () => {
    const { name } = await trust.policies.create(policyRequest(issuer), ACTOR)
    const actorOf = async (sub: string) =>
      (await trust.policies.exchange(await issuer.token({ sub }))).actor
    expect(await actorOf('a\nb\u202ec\u001b[31m')).toBe(`${name}/a\uFFFDb\uFFFDc\uFFFD[31m`)
    const long = await actorOf(`${'x'.repeat(300)}y`)
    expect(long).toHaveLength(255)
    expect(long).toMatch(/^policy-\d+\/x+…$/)
    expect(await actorOf(`${'\u{1f426}'.repeat(200)}`)).not.toMatch(/\p{Cs}/u)
  })
})

const NO_MATCH = {
  code: 'UNAUTHORIZED',
  message: 'no trust policy matches this identity token',
}
