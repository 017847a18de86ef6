import type { Conditions } from './conditions.ts'

/** A claim that names the owner of a job, and the beginning that a pattern must have to name one owner. */
type OwnerClaim = {
  readonly claim: string
  /** Matches a pattern whose owner is literal. Everything after the owner is free. */
  readonly binds: RegExp
  /** True for an id that never belongs to another owner. Names are free again after a deletion. */
  readonly isId: boolean
}

/** An issuer that signs identity tokens for everybody who has an account. */
type SharedIssuer = {
  readonly name: string
  /** Compared with the issuer without a slash at its end. */
  readonly issuer: RegExp
  readonly claims: readonly OwnerClaim[]
}

/** The value has no star. */
const LITERAL = /^[^*]+$/
/** The first component of a path, such as `octo/` of `octo/**`. */
const OWNER_OF_PATH = /^[^/*]+\//

const name = (claim: string, binds: RegExp = LITERAL): OwnerClaim => ({ claim, binds, isId: false })
const id = (claim: string, binds: RegExp = LITERAL): OwnerClaim => ({ claim, binds, isId: true })

/**
 * GitHub and Forgejo. Not here: `actor` (a person can be made to start a job of any repository),
 * `job_workflow_ref` (anybody may call a public workflow), `environment`, `ref`, `event_name`.
 */
const REPOSITORY_CLAIMS: readonly OwnerClaim[] = [
  id('repository_owner_id'),
  id('repository_id'),
  name('repository_owner'),
  name('repository', OWNER_OF_PATH),
  // An organization chooses the claims in its `sub`: only these beginnings name the owner.
  id('sub', /^(?:repository_owner_id|repository_id):[^:*]+(?::|$)/),
  name('sub', /^repo:[^/:*]+\/|^repository_owner:[^:*]+(?::|$)|^repository:[^/:*]+\//),
]

/**
 * The issuers that are known to be shared, from their documentation of identity tokens. Issuers whose URL names the
 * owner are not shared: CircleCI (`/org/ID`), Vercel (`/TEAM`), Bitbucket (`/workspaces/NAME`), Azure DevOps, Semaphore,
 * Fly.io, clusters of Kubernetes, and tenants of Entra ID.
 */
const SHARED_ISSUERS: readonly SharedIssuer[] = [
  {
    name: 'GitHub Actions',
    issuer: /^https:\/\/token\.actions\.githubusercontent\.com$/,
    claims: [...REPOSITORY_CLAIMS, id('enterprise_id'), name('enterprise')],
  },
  {
    name: 'Forgejo Actions of Codeberg',
    issuer: /^https:\/\/(?:[a-z0-9-]+\.)*codeberg\.org(?:\/.*)?$/,
    claims: REPOSITORY_CLAIMS,
  },
  {
    // Not here: `user_id` and `user_login` (a person can run a job of any project), `ci_config_ref_uri`.
    name: 'GitLab.com',
    issuer: /^https:\/\/gitlab\.com$/,
    claims: [
      id('namespace_id'),
      id('project_id'),
      name('namespace_path', /^[^/*]+(?:\/|$)/),
      name('project_path', OWNER_OF_PATH),
      name('sub', /^project_path:[^/:*]+\//),
    ],
  },
  {
    name: 'Buildkite',
    issuer: /^https:\/\/agent\.buildkite\.com$/,
    claims: [
      id('organization_id'),
      id('pipeline_id'),
      name('organization_slug'),
      name('sub', /^organization:[^:*]+:/),
    ],
  },
  {
    name: 'HCP Terraform',
    issuer: /^https:\/\/app\.terraform\.io$/,
    claims: [
      id('terraform_organization_id'),
      id('terraform_project_id'),
      id('terraform_workspace_id'),
      name('terraform_organization_name'),
      name('sub', /^organization:[^:*]+:/),
    ],
  },
  {
    name: 'Google',
    issuer: /^https:\/\/accounts\.google\.com$/,
    claims: [
      id('sub'),
      id('google.compute_engine.project_number'),
      name('email', /^[^*@]+@[^*@]+$/),
      name('hd'),
      name('google.compute_engine.project_id'),
    ],
  },
  {
    // The last id is the tenant of all personal accounts.
    name: 'Microsoft accounts of any tenant',
    issuer:
      /^https:\/\/(?:login\.microsoftonline\.com|sts\.windows\.net)\/(?:common|organizations|consumers|9188040d-6c67-4c5b-b112-36a304b66dad)(?:\/v2\.0)?$/,
    claims: [id('tid', /^(?!9188040d-6c67-4c5b-b112-36a304b66dad)[^*]+$/), id('oid'), id('sub')],
  },
  {
    name: 'Vercel',
    issuer: /^https:\/\/oidc\.vercel\.com$/,
    claims: [id('owner_id'), id('project_id'), name('owner'), name('sub', /^owner:[^:*]+:/)],
  },
  {
    name: 'CircleCI',
    issuer: /^https:\/\/oidc\.circleci\.com$/,
    claims: [
      id('oidc.circleci.com/org-id'),
      id('oidc.circleci.com/project-id'),
      id('sub', /^org\/[^/*]+\//),
    ],
  },
  {
    // Version 2 of its identity tokens has claims named by URLs; version 1 names the organization in `sub`.
    name: 'Pulumi Cloud',
    issuer: /^https:\/\/api\.pulumi\.com\/oidc(?:\/v\d+)?$/,
    claims: [
      id('https://pulumi.com/org_id'),
      name('https://pulumi.com/org'),
      name('sub', /^pulumi:(?:environments|deploy):org:[^:*]+:/),
    ],
  },
  {
    name: 'Chainguard',
    issuer: /^https:\/\/issuer\.enforce\.dev$/,
    claims: [id('sub')],
  },
  {
    name: 'Hellō',
    issuer: /^https:\/\/issuer\.hello\.coop$/,
    claims: [id('sub'), name('email', /^[^*@]+@[^*@]+$/)],
  },
  {
    name: 'Codefresh',
    issuer: /^https:\/\/oidc\.codefresh\.io$/,
    claims: [id('account_id'), name('sub', /^account:[^:*]+:/)],
  },
  {
    name: 'Sigstore',
    issuer: /^https:\/\/oauth2\.sigstore\.dev\/auth$/,
    claims: [id('sub'), name('email', /^[^*@]+@[^*@]+$/)],
  },
]

/** Claims that every token of an issuer may have: they name no owner. */
const CLAIMS_OF_NOBODY: ReadonlySet<string> = new Set([
  'iss',
  'aud',
  'exp',
  'iat',
  'nbf',
  'jti',
  'typ',
])

/** A policy as far as its binding depends on it. */
type Binding = { readonly issuer: string; readonly conditions: Conditions }

/** Returns the name of an issuer that many owners share, or undefined. */
export function sharedIssuerName(issuer: string): string | undefined {
  return sharedIssuerOf(issuer)?.name
}

/**
 * Returns the error text for conditions that tokens of unrelated owners meet, or undefined. A shared issuer needs
 * a condition whose every pattern names one owner literally; another one needs a condition that says anything.
 */
export function findBindingProblem({ issuer, conditions }: Binding): string | undefined {
  const shared = sharedIssuerOf(issuer)
  if (shared === undefined) return isRestrictive(conditions) ? undefined : NOT_RESTRICTIVE
  if (bindingClaims(shared, conditions).length > 0) return undefined
  const claims = [...new Set(shared.claims.map(({ claim }) => claim))]
  return `anybody can get identity tokens of ${issuer} (${shared.name}): one of the conditions ${claims.join(', ')} must name the owner without * in every pattern, such as ${exampleOf(shared)}`
}

/** Returns a warning when only names restrict the owner: a deleted name can belong to somebody else later. */
export function findBindingWarning({ issuer, conditions }: Binding): string | undefined {
  const shared = sharedIssuerOf(issuer)
  if (shared === undefined) return undefined
  const bound = bindingClaims(shared, conditions)
  if (bound.length === 0 || bound.some(({ isId }) => isId)) return undefined
  const ids = shared.claims.filter(({ isId, claim }) => isId && claim !== 'sub')
  const advice = ids.map(({ claim }) => claim).join(' or ') || 'sub'
  return `the conditions restrict the owner by name only: after it is renamed or deleted, the next owner of the name meets them; add a condition on ${advice}`
}

const NOT_RESTRICTIVE =
  'at least one condition must restrict its claim, and not only iss, aud or a time: * matches any value'

function sharedIssuerOf(issuer: string): SharedIssuer | undefined {
  const normalized = normalizedIssuer(issuer)
  return SHARED_ISSUERS.find((shared) => shared.issuer.test(normalized))
}

/** Tokens are compared with the exact text; here no spelling of a shared issuer may pass as another one. */
function normalizedIssuer(issuer: string): string {
  const text = URL.canParse(issuer) ? new URL(issuer).href : issuer
  return text.replace(/^http:/, 'https:').replace(/\/+$/, '')
}

function bindingClaims(shared: SharedIssuer, conditions: Conditions): OwnerClaim[] {
  return Object.entries(conditions).flatMap(([claim, globs]) => {
    const path = pathOf(claim).join('.')
    return shared.claims.filter(
      (one) =>
        one.claim === path && globs.length > 0 && globs.every((glob) => one.binds.test(glob)),
    )
  })
}

/** A pattern of stars and punctuation alone, such as a star on each side of a slash, restricts nothing. */
function isRestrictive(conditions: Conditions): boolean {
  return Object.entries(conditions).some(
    ([claim, globs]) =>
      !CLAIMS_OF_NOBODY.has(pathOf(claim)[0] ?? '') &&
      globs.every((glob) => !glob.includes('*') || /[\p{L}\p{N}]/u.test(glob)),
  )
}

/** Returns the members that a claim or a JSON Pointer names. */
function pathOf(claim: string): string[] {
  if (!claim.startsWith('/')) return [claim]
  const parts = claim.slice(1).split('/')
  return parts.map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
}

const EXAMPLES: Readonly<Record<string, string>> = {
  repository_owner_id: 'repository_owner_id=12345 or repository=octo/*',
  namespace_id: 'namespace_id=12345 or project_path=group/**',
}

function exampleOf({ claims: [first] }: SharedIssuer): string {
  return EXAMPLES[first?.claim ?? ''] ?? `${first?.claim}=…`
}
