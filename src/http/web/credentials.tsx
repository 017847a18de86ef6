import type { Caller } from '../../auth/access.ts'
import type { Credentials } from '../../auth/credentials.ts'
import type { Sessions } from '../../auth/sessions.ts'
import { CredentialsPage, type LoginView } from '../../web/credentials.tsx'
import type { PageCursors } from '../pages.ts'
import type { AskQuestion } from '../question-budget.ts'
import { actorOf, param, queryOnce, type Route, type RouteContext } from '../route.ts'
import { findSessionSecret } from '../session-cookie.ts'
import { nextPath } from './next-path.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

const CREDENTIALS_A_PAGE = 15
/** Credentials that end soon: so many of those that end within so many days. */
const EXPIRING = 5
const EXPIRING_DAYS = 30
const DAY_MILLISECONDS = 86_400_000
const PAGE = '/credentials'

/** The objects that the page of credentials calls. */
export type CredentialPageDeps = {
  readonly auth: { readonly credentials: Credentials; readonly sessions: Sessions }
  readonly ask: AskQuestion
  readonly pageCursors: PageCursors
  clientBaseUrl(ctx: RouteContext): string
}

/** The page of the reader's login and sessions, and of all credentials for an administrator, with the forms that end them. */
export function credentialPages(deps: CredentialPageDeps): Route[] {
  const { ask, clientBaseUrl } = deps
  const secretOf = (ctx: RouteContext) =>
    ctx.state.caller.kind !== 'anonymous' && ctx.state.caller.scheme === 'session'
      ? findSessionSecret(ctx, ctx.state.address, () => clientBaseUrl(ctx))
      : undefined
  return [
    {
      method: 'GET',
      path: PAGE,
      ...PAGE_ROUTE,
      access: 'authenticated',
      reads: 'question',
      async handle(ctx) {
        const { caller } = ctx.state
        const { credentials, sessions } = deps.auth
        const isAdmin = caller.kind === 'admin'
        const last = queryOnce(ctx, 'last') ?? ''
        const db = ask(ctx)
        const [own, found, expiring] = await Promise.all([
          sessions.list(db, caller, { secret: secretOf(ctx) }),
          isAdmin ? credentials.list(last, CREDENTIALS_A_PAGE + 1, db) : [],
          isAdmin && last === '' ? credentials.listExpiring(EXPIRING_DAYS, EXPIRING, db) : [],
        ])
        const shown = found.slice(0, CREDENTIALS_A_PAGE)
        const next = found.length > shown.length ? nextPath(ctx, shown.at(-1)?.name) : undefined
        sendPage(ctx, {
          title: 'Credentials',
          json: isAdmin ? '/api/v1/credentials' : '/api/v1/sessions',
          next,
          content: (
            <CredentialsPage
              login={loginOf(caller)}
              sessions={own}
              credentials={isAdmin ? shown : undefined}
              expiring={expiring}
              expiringDays={EXPIRING_DAYS}
              expiringBefore={new Date(Date.now() + EXPIRING_DAYS * DAY_MILLISECONDS)}
              isFirst={last === ''}
              next={next}
            />
          ),
        })
      },
    },
    {
      method: 'POST',
      path: `${PAGE}/:name/revoke`,
      inReadOnlyMode: true,
      ...PAGE_ROUTE,
      access: 'admin',
      async handle(ctx) {
        await deps.auth.credentials.revoke(param(ctx, 'name'), actorOf(ctx))
        showPage(ctx)
      },
    },
    {
      method: 'POST',
      path: '/sessions/:session/end',
      inReadOnlyMode: true,
      ...PAGE_ROUTE,
      access: 'authenticated',
      async handle(ctx) {
        await deps.auth.sessions.revoke(param(ctx, 'session'), ctx.state.caller, actorOf(ctx))
        showPage(ctx)
      },
    },
    {
      method: 'POST',
      path: '/sessions/end-others',
      inReadOnlyMode: true,
      ...PAGE_ROUTE,
      access: 'authenticated',
      async handle(ctx) {
        const exceptSecret = secretOf(ctx)
        await deps.auth.sessions.revokeAll({ exceptSecret }, ctx.state.caller, actorOf(ctx))
        showPage(ctx)
      },
    },
  ]
}

function loginOf(caller: Caller): LoginView {
  if (caller.kind === 'anonymous') throw new Error('the route let an anonymous caller read')
  const { actor, tokenId } = caller
  const grants = caller.kind === 'admin' ? undefined : caller.grants
  return { name: actor, isToken: tokenId !== undefined, grants }
}

function showPage(ctx: RouteContext): void {
  ctx.status = 303
  ctx.redirect(PAGE)
}
