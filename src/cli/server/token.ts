import {
  AccessTokens,
  InvalidTokenError,
  isTokenLike,
  type MintedToken,
  type TokenClaims,
} from '../../auth/access-tokens.ts'
import { AuditLog } from '../../auth/audit.ts'
import { assertName } from '../../auth/credentials.ts'
import { TokenRevocations } from '../../auth/revocations.ts'
import type { AccessEntry } from '../../auth/scope.ts'
import type { Config } from '../../config/config.ts'
import { TOKEN_SECONDS_MAX } from '../../config/limits.ts'
import { findCredentialByName } from '../../db/auth/credentials.ts'
import type { Queryable } from '../../db/database.ts'
import { findNetworkProblem } from '../../networks/networks.ts'
import { isUuidInAnyCase } from '../../oci/uuid.ts'
import { findIssuer, openSigningKeys } from '../../server/signing-keys.ts'
import {
  argument,
  command,
  describeDefault,
  flag,
  JSON_OPTION,
  type Values,
  value,
} from '../command.ts'
import { durationOption } from '../durations.ts'
import { CommandError, STATUS, UsageError } from '../errors.ts'
import { readSecretArgument } from '../input.ts'
import { printResult, utcText } from '../printing.ts'
import { loginUrl } from '../registry/login.ts'
import { OPERATOR, type OpenRegistry, withRegistry } from './operator.ts'
import { NETWORK_OPTION, RIGHT_OPTIONS } from './right-options.ts'
import { assertShort, downscope, grantedByOperator, type TokenRequest } from './token-request.ts'

/** The user name beside a token used as a password. The registry accepts any. */
const TOKEN_USER = 'token'

const REQUEST_OPTIONS = {
  ...RIGHT_OPTIONS,
  admin: flag('allow everything; excludes --repository, --action and --tag'),
  ...NETWORK_OPTION,
}

export const mintCommand = command({
  options: {
    ...REQUEST_OPTIONS,
    credential: value('NAME', 'issue it from this credential, with its rights or fewer'),
    subject: describeDefault(value('NAME', 'name of the holder in the audit log'), 'operator'),
    ttl: describeDefault(durationOption('lifetime', TOKEN_SECONDS_MAX), 'ROOKERY_TOKEN_SECONDS'),
    url: flag('print https://token:TOKEN@HOST instead'),
    ...JSON_OPTION,
  },
  notes:
    '--repository or --admin is required without --credential. A token from a credential ends with it.',
  examples: [
    [
      'export ROOKERY_TOKEN=$(rookery token mint --repository builds/www)',
      'log this shell in to push builds/www',
    ],
    ['rookery token mint --credential orb-1 --tag v1 --ttl 15m', 'a token for one tag'],
  ],
  async run(values, environment) {
    const { credential, subject = OPERATOR.name, ttl: seconds, json } = values
    const request = requestOf(values)
    if (credential !== undefined && values.subject !== undefined) {
      throw new UsageError(
        '--credential and --subject exclude each other: the token has the name of the credential',
      )
    }
    return withRegistry(environment, async (state, config) => {
      const source =
        credential === undefined
          ? claimsOfOperator(subject, request)
          : await claimsOfCredential(state.db, credential, request)
      assertShort(source.claims)
      const ttl = secondsWithin(source.expiresAt, seconds ?? config.tokenSeconds)
      const minted = await mint(state, config, source.claims, ttl)
      const url = loginUrl(state.baseUrl, TOKEN_USER, minted.token)
      const result = { ...jsonOf(minted, source.claims), ...(values.url && { url }) }
      printResult(json, result, [values.url ? url : minted.token])
      return STATUS.ok
    })
  },
})

export const revokeCommand = command({
  arguments: {
    token: argument(
      'TOKEN',
      'id of the token (its claim jti), or - to read a token or id from standard input',
    ),
  },
  options: JSON_OPTION,
  examples: [
    ['echo "$TOKEN" | rookery token revoke -', 'revoke a token from standard input'],
    ['rookery token revoke 0b6f0c4e-8d3c-4f6a-9d2e-5a1f7c3b2e10', 'revoke a token by its id'],
  ],
  async run({ token, json }, environment) {
    const text = isUuidInAnyCase(token) ? token : await readSecretArgument(token, 'a token')
    if (!isTokenLike(text) && !isUuidInAnyCase(text)) {
      throw new UsageError(
        'expected a token, or its id, which is a UUID; rookery credential revoke ends a credential',
      )
    }
    return withRegistry(environment, async (state, config) => {
      const tokenId = isTokenLike(text) ? await idOf(state, config, text) : text.toLowerCase()
      await new TokenRevocations(state.db).revoke(tokenId, OPERATOR)
      printResult(json, { revoked: tokenId }, [`The token ${tokenId} is refused within seconds.`])
      return STATUS.ok
    })
  },
})

function requestOf(values: Values<typeof REQUEST_OPTIONS>): TokenRequest {
  const { admin, repository, action, tag, network } = values
  if (admin && [repository, action, tag].some((one) => one !== undefined)) {
    throw new UsageError('--admin allows everything and excludes --repository, --action and --tag')
  }
  const problem = findNetworkProblem(network ?? [])
  if (problem !== undefined) throw new UsageError(`--network: ${problem}`)
  return { admin, repositories: repository, actions: action, tags: tag, networks: network }
}

/** The claims of a token, and the end of what they come from. */
type TokenSource = { readonly claims: TokenClaims; readonly expiresAt: Date | null }

function claimsOfOperator(subject: string, request: TokenRequest): TokenSource {
  if (subject !== OPERATOR.name) assertName(subject)
  return { claims: grantedByOperator(request, subject), expiresAt: null }
}

async function claimsOfCredential(
  db: Queryable,
  name: string,
  request: TokenRequest,
): Promise<TokenSource> {
  const row = await findCredentialByName(db, name)
  if (row === undefined) throw new CommandError(`there is no credential ${name}`)
  return { claims: downscope(row, request), expiresAt: row.expiresAt }
}

/** A token never outlives its credential. */
function secondsWithin(expiresAt: Date | null, seconds: number): number {
  if (expiresAt === null) return seconds
  return Math.max(1, Math.min(seconds, Math.floor((expiresAt.getTime() - Date.now()) / 1000)))
}

async function mint(
  state: OpenRegistry,
  config: Config,
  claims: TokenClaims,
  seconds: number,
): Promise<MintedToken> {
  const tokens = await openTokens(state, config)
  const minted = await tokens.mint(claims, seconds)
  // The audit log has it before anybody has the token.
  const entry = {
    action: 'mint',
    decision: 'allowed',
    actor: OPERATOR.name,
    origin: claims.origin ?? null,
    tokenId: minted.tokenId,
    detail: `for ${claims.subject}, ${seconds} s: ${claims.access.map(entryText).join('; ')}`,
  } as const
  await auditOf(state).record(entry, undefined)
  return minted
}

function jsonOf(minted: MintedToken, { subject, access, networks }: TokenClaims) {
  // Claims have whole seconds.
  const issuedSeconds = Math.floor(minted.issuedAt.getTime() / 1000)
  const expiresAt = new Date((issuedSeconds + minted.expiresSeconds) * 1000)
  return {
    token: minted.token,
    id: minted.tokenId,
    expiresAt: utcText(expiresAt),
    subject,
    access,
    ...(networks === undefined ? {} : { networks }),
  }
}

function entryText({ type, name, actions, tags = [] }: AccessEntry): string {
  return [`${type}:${name}:${actions.join(',')}`, ...tags.map((tag) => `tag ${tag}`)].join(' ')
}

/** Returns the id of a token of this registry. Throws CommandError for any other. */
async function idOf(state: OpenRegistry, config: Config, token: string): Promise<string> {
  const tokens = await openTokens(state, config)
  try {
    return (await tokens.verify(token)).tokenId
  } catch (cause) {
    if (!(cause instanceof InvalidTokenError)) throw cause
    throw new CommandError(cause.message, { cause })
  }
}

async function openTokens(state: OpenRegistry, config: Config): Promise<AccessTokens> {
  const { keys } = await openSigningKeys(state, config)
  return new AccessTokens(keys, await findIssuer(state.db, config))
}

function auditOf({ db }: OpenRegistry): AuditLog {
  return new AuditLog(db, () => {})
}
