import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Conditions } from '../../src/auth/trust/conditions.ts'
import { policyChecks } from '../../src/auth/trust/policy-checks.ts'
import { findBindingProblem } from '../../src/auth/trust/shared-issuers.ts'
import { sql } from '../auth/credentials-client.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

const GITHUB = 'https://token.actions.githubusercontent.com'
const GITLAB = 'https://gitlab.com'

let registry: TestRegistry
beforeAll(async () => {
  registry = await startRegistry()
})
afterAll(() => registry.close())

let made = 0

type Answer = { name: string; message: string; warnings: string[] }

/** Creates a policy and returns its status and body, with the error message as `message`. */
async function create(fields: Record<string, unknown>): Promise<{ status: number } & Answer> {
  made += 1
  const policy = {
    name: `p${made}`,
    audience: 'https://registry.example',
    repositories: ['builds/**'],
    actions: ['pull', 'push'],
    ...fields,
  }
  const answer = await registry.request('/api/v1/policies', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(policy),
  })
  const body = (await answer.json()) as Answer & { errors?: { message: string }[] }
  return { ...body, status: answer.status, message: body.errors?.[0]?.message ?? '' }
}

/** Conditions that tokens of strangers meet. */
const UNBOUND: readonly [issuer: string, conditions: Record<string, string | string[]>][] = [
  [GITHUB, { ref: 'refs/heads/main' }],
  [GITHUB, { aud: 'https://registry.example' }],
  [GITHUB, { iss: GITHUB }],
  [GITHUB, { environment: 'production', event_name: 'push' }],
  [GITHUB, { sub: 'repo:octo*/*:**' }],
  [GITHUB, { sub: 'repo:*/kernel:ref:refs/heads/main' }],
  [GITHUB, { sub: '**:ref:refs/heads/main' }],
  [GITHUB, { sub: 'environment:production' }],
  [GITHUB, { sub: 'repo:octo**' }],
  [GITHUB, { repository: 'octo*' }],
  [GITHUB, { repository: 'octo*/kernel' }],
  [GITHUB, { repository: '*/kernel' }],
  [GITHUB, { repository: ['octo/kernel', '*/kernel'] }],
  [GITHUB, { repository_owner: 'octo*' }],
  [GITHUB, { repository_owner: ['octo', '**'] }],
  [GITHUB, { repository_owner_id: '1*' }],
  [GITHUB, { '/repository': '*/kernel' }],
  [GITHUB, { '/repository/length': '11' }],
  [GITHUB, { actor: 'octocat' }],
  [GITHUB, { actor_id: '583231' }],
  [GITHUB, { job_workflow_ref: 'octo/workflows/.github/workflows/build.yml@refs/heads/main' }],
  [GITHUB, { repository_visibility: 'private' }],
  [`${GITHUB}/`, { ref: 'refs/heads/main' }],
  ['https://TOKEN.actions.githubusercontent.com', { ref: 'refs/heads/main' }],
  ['https://token.actions.githubusercontent.com:443', { ref: 'refs/heads/main' }],
  [GITLAB, { sub: 'project_path:*/*:ref_type:branch:ref:main' }],
  [GITLAB, { ref: 'main', ref_protected: 'true' }],
  [GITLAB, { namespace_path: 'gro*' }],
  [GITLAB, { project_path: '**/www' }],
  [GITLAB, { user_login: 'octo', user_id: '7' }],
  ['https://agent.buildkite.com', { sub: 'organization:*:pipeline:www:**' }],
  ['https://agent.buildkite.com', { pipeline_slug: 'www' }],
  ['https://accounts.google.com', { email: '*@example.org' }],
  ['https://accounts.google.com', { email_verified: 'true' }],
  ['https://app.terraform.io', { terraform_workspace_name: 'production' }],
  ['https://login.microsoftonline.com/common/v2.0', { roles: 'push' }],
  [
    'https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0',
    { tid: '9188040d-6c67-4c5b-b112-36a304b66dad' },
  ],
  ['https://codeberg.org/api/actions', { ref: 'refs/heads/main' }],
  ['https://oidc.circleci.com', { 'oidc.circleci.com/vcs-ref': 'refs/heads/main' }],
  ['https://oidc.circleci.com', { sub: 'org/*/project/**' }],
  ['https://api.pulumi.com/oidc/v2', { 'https://pulumi.com/actor': 'octo' }],
  ['https://api.pulumi.com/oidc', { sub: 'pulumi:environments:org:*:env:www' }],
  ['https://issuer.enforce.dev/', { email_verified: 'true' }],
  ['https://issuer.hello.coop', { email: '*@example.org' }],
  ['https://oidc.vercel.com', { environment: 'production' }],
  ['https://ci.example', { aud: 'https://registry.example' }],
  ['https://ci.example', { iss: 'https://ci.example', '/aud/0': 'x' }],
  ['https://ci.example', { sub: '**' }],
  ['https://ci.example', { repository: '*/*' }],
  ['https://ci.example', { repository: ['octo/app', '**/**'] }],
]

/** Conditions that name an owner, and whether one of them is an id. */
const BOUND: readonly [string, Record<string, string | string[]>, hasId: boolean][] = [
  [GITHUB, { repository_owner_id: '583231', ref: 'refs/heads/main' }, true],
  [GITHUB, { repository: 'octo/*', repository_owner_id: '583231' }, true],
  [GITHUB, { '/repository_owner_id': '583231' }, true],
  [GITHUB, { repository: 'octo/kernel' }, false],
  [GITHUB, { repository: ['octo/kernel', 'example/**'] }, false],
  [GITHUB, { repository_owner: 'octo' }, false],
  [GITHUB, { sub: 'repo:octo/**' }, false],
  [GITHUB, { sub: 'repo:octo/kernel:ref:refs/heads/main' }, false],
  [GITHUB, { sub: 'repository_owner_id:583231:**' }, true],
  [GITLAB, { project_path: 'group/**' }, false],
  [GITLAB, { namespace_path: 'group' }, false],
  [GITLAB, { sub: 'project_path:group/www:ref_type:branch:ref:*' }, false],
  [GITLAB, { namespace_id: '72', project_path: 'group/*' }, true],
  ['https://agent.buildkite.com', { organization_slug: 'octo' }, false],
  ['https://accounts.google.com', { sub: '1234567890' }, true],
  ['https://accounts.google.com', { email: 'ci@project.iam.gserviceaccount.com' }, false],
  ['https://accounts.google.com', { '/google/compute_engine/project_number': '77' }, true],
  ['https://ci.example', { ref: 'refs/heads/main' }, true],
  ['https://ci.example', { sub: 'repo:*/*:**' }, true],
  [
    'https://codeberg.org/api/actions',
    { sub: 'repo:octo-12/www-34:**', repository_id: '34' },
    true,
  ],
  ['https://oidc.circleci.com', { sub: 'org/72b3/project/9f/**' }, true],
  ['https://api.pulumi.com/oidc/v2', { 'https://pulumi.com/org_id': '72b3' }, true],
  ['https://api.pulumi.com/oidc', { sub: 'pulumi:environments:org:octo:env:www' }, false],
  ['https://oidc.circleci.com/org/72b3', { 'oidc.circleci.com/project-id': 'x' }, true],
]

describe('a trust policy for an issuer that everybody can use', () => {
  it('is refused when it names no owner, and the error says which conditions would', async () => {
    for (const [issuer, conditions] of UNBOUND) {
      const { status, message } = await create({ issuer, conditions })
      expect(status, JSON.stringify([issuer, conditions])).toBe(400)
      if (issuer === GITHUB) expect(message).toContain('repository=octo/*')
    }
  })

  it('is created when it names one, with a warning when it is a name and no id', async () => {
    for (const [issuer, conditions, hasId] of BOUND) {
      const { status, warnings } = await create({ issuer, conditions })
      expect(status, JSON.stringify([issuer, conditions])).toBe(201)
      expect(warnings.length, JSON.stringify([issuer, conditions])).toBe(hasId ? 0 : 1)
      if (issuer === GITHUB && !hasId) expect(warnings[0]).toContain('repository_owner_id')
    }
  })

  it('gives the action admin only when that is confirmed', async () => {
    const policy = {
      issuer: GITHUB,
      conditions: { repository_owner_id: '583231' },
      actions: ['admin'],
    }
    const refused = await create(policy)
    expect(refused.status).toBe(400)
    expect(refused.message).toContain('allowAdmin')
    expect((await create({ ...policy, allowAdmin: false })).status).toBe(400)
    expect((await create({ ...policy, allowAdmin: 'yes' })).status).toBe(400)
    expect((await create({ ...policy, allowAdmin: true })).status).toBe(201)
    const own = { ...policy, issuer: 'https://ci.example', conditions: { group: 'release' } }
    expect((await create(own)).status).toBe(201)
    const unbound = { ...policy, conditions: { ref: 'refs/heads/main' }, allowAdmin: true }
    expect((await create(unbound)).status).toBe(400)
  })

  it('is refused at the exchange, and listed with a warning, when an earlier release stored it', async () => {
    await sql(
      registry,
      `insert into trust_policies
              (name, issuer, audience, conditions, repositories, actions, token_seconds, created_by)
       values ('stored', $1, 'aud', '{"ref": ["refs/heads/main"]}', '{"**"}', '{admin}', 900, 'x')`,
      [GITHUB],
    )
    const answer = await registry.request('/api/v1/policies/stored')
    const stored = (await answer.json()) as { warnings: string[] }
    expect(stored.warnings).toEqual([expect.stringContaining('its identity tokens are refused')])
    const row = {
      ...{ id: 1, name: 'stored', issuer: GITHUB, audience: 'aud', repositories: ['**'] },
      ...{ actions: ['admin'], tags: null, tokenSeconds: 900, createdBy: 'x' },
      createdAt: new Date(),
    }
    const claims = { iss: GITHUB, sub: 'repo:evil/x', aud: 'aud', ref: 'refs/heads/main' }
    const token = { text: '', header: {}, claims, issuer: GITHUB, subject: claims.sub }
    const checks = policyChecks({ ...row, conditions: { ref: ['refs/heads/main'] } }, token)
    expect(checks.filter(({ holds }) => !holds).map(({ check }) => check)).toEqual(['binding'])
    const bound = { ...row, conditions: { ref: ['refs/heads/main'], sub: ['repo:evil/x'] } }
    expect(policyChecks(bound, token).every(({ holds }) => holds)).toBe(true)
  })

  it('has the same rule for every spelling of a condition', () => {
    const pointer = { '/repository_owner': ['octo'] } as unknown as Conditions
    expect(findBindingProblem({ issuer: GITHUB, conditions: pointer })).toBeUndefined()
    const nested = { '/repository_owner/0': ['octo'] } as unknown as Conditions
    expect(findBindingProblem({ issuer: GITHUB, conditions: nested })).toBeDefined()
  })
})
