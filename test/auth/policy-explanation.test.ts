import { afterAll, beforeAll, expect, it } from 'vitest'
import { newKey, startIssuer, type TestIssuer } from './issuer.ts'
import { ACTOR, openTrust, policyRequest, resultOf, type Trust } from './trust-policies.ts'

let trust: Trust
let issuer: TestIssuer

beforeAll(async () => {
  trust = await openTrust()
  issuer = await startIssuer()
  const conditions = { repository: ['octo/app', 'octo/k*'], '/kubernetes.io/namespace': 'cd' }
  await trust.policies.create(policyRequest(issuer, { name: 'a-strict', conditions }), ACTOR)
  await trust.policies.create(policyRequest(issuer, { name: 'b-right' }), ACTOR)
  await trust.policies.create(policyRequest(issuer, { name: 'c-other', audience: 'other' }), ACTOR)
})

afterAll(async () => {
  await issuer.close()
  await trust.close()
})

const failing = (checks: readonly { holds: boolean; check: string; claim: string | null }[] = []) =>
  checks.filter(({ holds }) => !holds).map(({ check, claim }) => claim ?? check)

it('shows the requirements of every policy of the issuer, and the values of the token', async () => {
  const explanation = await trust.policies.explain(await issuer.token())
  expect(explanation).toMatchObject({
    issuer: issuer.url,
    subject: 'repo:octo/kernel:ref:refs/heads/main',
    matches: 'b-right',
  })
  expect(explanation.policies.map(({ name, matches }) => [name, matches])).toEqual([
    ['a-strict', false],
    ['b-right', true],
    ['c-other', false],
  ])
  const [strict, right, other] = explanation.policies
  expect(failing(strict?.checks)).toEqual(['/kubernetes.io/namespace'])
  expect(strict?.checks.filter(({ check }) => check === 'condition')).toEqual(
    expect.arrayContaining([
      {
        check: 'condition',
        claim: 'repository',
        holds: true,
        wanted: ['octo/app', 'octo/k*'],
        found: ['octo/kernel'],
        problem: null,
      },
      {
        check: 'condition',
        claim: '/kubernetes.io/namespace',
        holds: false,
        wanted: ['cd'],
        found: ['ci'],
        problem: null,
      },
    ]),
  )
  expect(right?.checks.map(({ check, holds }) => [check, holds])).toEqual([
    ['signature', true],
    ['time', true],
    ['issuer', true],
    ['audience', true],
    ['condition', true],
  ])
  expect(other?.checks.find(({ check }) => check === 'audience')).toMatchObject({
    holds: false,
    wanted: ['other'],
    found: ['https://registry.example'],
  })
})

it('shows every failed check, not only the first', async () => {
  const attacker = await newKey('first')
  const claims = { exp: 1000, aud: ['x', 'y'], repository: undefined }
  const { matches, policies } = await trust.policies.explain(
    await issuer.token(claims, {}, attacker),
  )
  expect(matches).toBeNull()
  expect(failing(policies[1]?.checks)).toEqual(['signature', 'time', 'audience', 'repository'])
  expect(policies[1]?.checks.map(({ problem }) => problem)).toEqual([
    'the signature of the identity token is wrong',
    'the identity token has expired',
    null,
    null,
    null,
  ])
  expect(policies[1]?.checks.at(-1)?.found).toEqual([])
})

it('cuts long values and long lists', async () => {
  const groups = Array.from({ length: 500 }, (_, index) => `group-${index}`)
  const aud = ['y'.repeat(2000), ...groups]
  const { policies } = await trust.policies.explain(await issuer.token({ aud }))
  const found = policies[1]?.checks.find(({ check }) => check === 'audience')?.found
  expect(found).toHaveLength(20)
  expect(found?.[0]).toHaveLength(256)
})

it('sends no request to an untrusted issuer', async () => {
  const stranger = await startIssuer()
  expect(await trust.policies.explain(await stranger.token())).toEqual({
    issuer: stranger.url,
    subject: 'repo:octo/kernel:ref:refs/heads/main',
    matches: null,
    policies: [],
  })
  expect(stranger.requests).toEqual([])
  await stranger.close()
})

it('does not use up the token', async () => {
  const token = await issuer.token()
  for (let index = 0; index < 3; index += 1) {
    expect(await trust.policies.explain(token)).toMatchObject({ matches: 'b-right' })
  }
  expect(await trust.policies.exchange(token)).toHaveProperty('actor')
})

it('refuses a text that is not a token', async () => {
  for (const text of ['', 'x', 'a.b.c', 'x'.repeat(20_000)]) {
    expect(await resultOf(trust.policies.explain(text))).toMatchObject({
      code: 'REQUEST_INVALID',
      message: expect.stringContaining('an identity token'),
    })
  }
})
