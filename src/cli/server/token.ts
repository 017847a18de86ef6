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
import { findIssuer, openSigningKeys } from '../../server/signing-keys.ts'
import {
  type Command,
  CommandError,
  parseArguments,
  parseOptions,
  STATUS,
  UsageError,
} from '../command.ts'
import { parseDuration } from '../durations.ts'
import { printJson, printLines, utcText } from '../printing.ts'
import { loginUrl } from '../registry/login.ts'
import { listOf, OPERATOR, type OpenRegistry, publicBaseUrl, withRegistry } from './operator.ts'
import { demandShort, downscope, grantedByOperator, type TokenRequest } from './token-request.ts'

/** Under any name: clients that know only passwords hand over the token as one. */
const TOKEN_USER = 'token'
const STDIN = '-'
const STDIN_CHARACTERS_MAX = 64 * 1024
const TOKEN_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

const mintCommand: Command = {
  words: ['token', 'mint'],
  usage:
    '(--repository NAME|GLOB... [--action pull|push|delete|admin...] [--tag GLOB...] | --admin) [--credential NAME | --subject NAME] [--ttl 15m] [--network CIDR...] [--url] [--json]',
  summary: 'Print a short-lived token; with --credential it is for what that has, or less',
  async run(args, environment) {
    const options = parseOptions(args, {
      repository: { type: 'string', multiple: true },
      action: { type: 'string', multiple: true },
      tag: { type: 'string', multiple: true },
      network: { type: 'string', multiple: true },
      ttl: { type: 'string' },
      subject: { type: 'string' },
      credential: { type: 'string' },
      admin: { type: 'boolean', default: false },
      url: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    })
    const wish = parseWish(options)
    const { credential, subject = OPERATOR.name } = options
    if (credential !== undefined && options.subject !== undefined) {
      throw new UsageError('a token out of a credential bears its name: leave out --subject')
    }
    const seconds =
      options.ttl === undefined ? undefined : parseDuration('ttl', options.ttl, TOKEN_SECONDS_MAX)
    return withRegistry(environment, async (state, config) => {
      const held =
        credential === undefined
          ? heldByOperator(subject, wish)
          : await heldBy(state.db, credential, wish)
      demandShort(held.claims)
      const ttl = secondsWithin(held.expiresAt, seconds ?? config.tokenSeconds)
      const minted = await mint(state, config, held.claims, ttl)
      const url = loginUrl(publicBaseUrl(config), TOKEN_USER, minted.token)
      if (options.json) printJson({ ...answerOf(minted, held.claims), ...(options.url && { url }) })
      else printLines([options.url ? url : minted.token])
      return STATUS.ok
    })
  },
}

const revokeCommand: Command = {
  words: ['token', 'revoke'],
  usage: 'TOKEN|JTI|- [--json]',
  summary: 'Take one token back, on every replica within seconds; - reads it from standard input',
  async run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      { json: { type: 'boolean', default: false } },
      ['TOKEN'],
    )
    const given = positionals[0] ?? ''
    const text = (given === STDIN ? await readStdin() : given).trim()
    if (!isTokenLike(text) && !TOKEN_ID.test(text)) {
      throw new UsageError(
        'expected a token, or its jti, which is a UUID; a credential is ended by: rookery credential revoke',
      )
    }
    return withRegistry(environment, async (state, config) => {
      const tokenId = isTokenLike(text) ? await idOf(state, config, text) : text.toLowerCase()
      await new TokenRevocations(state.db).revoke(tokenId, OPERATOR)
      if (values.json) printJson({ revoked: tokenId })
      else printLines([`The token ${tokenId} is refused within seconds.`])
      return STATUS.ok
    })
  },
}

/** Tokens on the command line: minted, revoked. */
export const tokenCommands: readonly Command[] = [mintCommand, revokeCommand]

type WishOptions = {
  readonly admin: boolean
  readonly repository?: string[] | undefined
  readonly action?: string[] | undefined
  readonly tag?: string[] | undefined
  readonly network?: string[] | undefined
}

function parseWish({ admin, repository, action, tag, network }: WishOptions): TokenRequest {
  if (admin && [repository, action, tag].some((one) => one !== undefined)) {
    throw new UsageError('--admin may do everything, and takes no --repository, --action or --tag')
  }
  const networks = listOf(network)
  const problem = findNetworkProblem(networks ?? [])
  if (problem !== undefined) throw new UsageError(`--network: ${problem}`)
  return {
    admin,
    repositories: listOf(repository),
    actions: listOf(action),
    tags: listOf(tag),
    networks,
  }
}

type Held = { readonly claims: TokenClaims; readonly expiresAt: Date | null }

function heldByOperator(subject: string, wish: TokenRequest): Held {
  if (subject !== OPERATOR.name) assertName(subject)
  return { claims: grantedByOperator(wish, subject), expiresAt: null }
}

async function heldBy(db: Queryable, name: string, wish: TokenRequest): Promise<Held> {
  const row = await findCredentialByName(db, name)
  if (row === undefined) throw new CommandError(`there is no credential ${name}`)
  return { claims: downscope(row, wish), expiresAt: row.expiresAt }
}

/** What comes from something never outlives it. */
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
  // Recorded before anybody has it.
  await auditOf(state).record({
    action: 'mint',
    decision: 'allowed',
    actor: OPERATOR.name,
    origin: claims.origin ?? null,
    tokenId: minted.tokenId,
    detail: `for ${claims.subject}, ${seconds} s: ${claims.access.map(entryText).join('; ')}`,
  })
  return minted
}

function answerOf(minted: MintedToken, { subject, access, networks }: TokenClaims) {
  // The claims have whole seconds.
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

/** Throws CommandError for a token that is not ours. */
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

async function readStdin(): Promise<string> {
  let text = ''
  for await (const chunk of process.stdin) {
    text += String(chunk)
    if (text.length > STDIN_CHARACTERS_MAX) throw new UsageError('that is too long for a token')
  }
  return text
}
