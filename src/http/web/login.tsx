import type { AuditLog } from '../../auth/audit.ts'
import type { Sessions } from '../../auth/sessions.ts'
import { RegistryError } from '../../oci/errors.ts'
import { InsecureLoginPage, LoginPage } from '../../web/login.tsx'
import { readForm } from '../api/form-fields.ts'
import { queryOnce, type Route, type RouteContext } from '../route.ts'
import { type SessionCookie, sessionCookieFor, setSessionCookie } from '../session-cookie.ts'
import { parseReturnPath } from './return-path.ts'
import { PAGE_ROUTE, sendPage } from './send-page.tsx'

/** The objects that the pages of logins call. */
export type LoginPageDeps = {
  readonly auth: { readonly sessions: Sessions; readonly audit: AuditLog }
  clientBaseUrl(ctx: RouteContext): string
}

type Attempt = { readonly name: string; readonly secret: string; readonly next: string }

/**
 * The form with which a person logs in, and the end of the login. Nothing here asks who calls, so that the form also works with a
 * cookie that is no longer valid.
 */
export function loginPages({ auth: { sessions, audit }, clientBaseUrl }: LoginPageDeps): Route[] {
  const cookieOf = (ctx: RouteContext) => sessionCookieFor(clientBaseUrl(ctx), ctx.state.address)
  return [
    {
      method: 'GET',
      path: '/login',
      ...PAGE_ROUTE,
      access: 'none',
      reads: 'nothing',
      handle(ctx) {
        if (cookieOf(ctx) === undefined) sendInsecure(ctx, clientBaseUrl(ctx), 200)
        else sendForm(ctx, { next: parseReturnPath(queryOnce(ctx, 'next')) })
      },
    },
    {
      method: 'POST',
      path: '/login',
      inReadOnlyMode: true,
      ...PAGE_ROUTE,
      access: 'none',
      async handle(ctx) {
        const cookie = cookieOf(ctx)
        if (cookie === undefined) return sendInsecure(ctx, clientBaseUrl(ctx), 403)
        const attempt = await readForm(
          ctx,
          (fields): Attempt => ({
            name: fields.optionalText('name')?.trim() ?? '',
            secret: fields.text('secret'),
            next: parseReturnPath(fields.optionalText('next')),
          }),
        )
        try {
          await logIn(ctx, sessions, cookie, attempt)
        } catch (error) {
          refuse(ctx, audit, attempt, error)
        }
      },
    },
    {
      method: 'POST',
      path: '/logout',
      inReadOnlyMode: true,
      ...PAGE_ROUTE,
      access: 'none',
      async handle(ctx) {
        const cookie = cookieOf(ctx)
        if (cookie !== undefined) await logOut(ctx, sessions, cookie)
        goTo(ctx, '/')
      },
    },
  ]
}

async function logIn(
  ctx: RouteContext,
  sessions: Sessions,
  cookie: SessionCookie,
  { name, secret, next }: Attempt,
): Promise<void> {
  const { address, requestId } = ctx.state
  const session = await sessions.logIn(name, secret, { address, requestId })
  const earlier = ctx.cookies.get(cookie.name)
  if (earlier !== undefined) await sessions.end(earlier, { address, requestId })
  setSessionCookie(ctx, cookie, session.secret, session.seconds)
  goTo(ctx, next)
}

async function logOut(ctx: RouteContext, sessions: Sessions, cookie: SessionCookie): Promise<void> {
  const { address, requestId } = ctx.state
  const secret = ctx.cookies.get(cookie.name)
  if (secret === undefined) return
  await sessions.end(secret, { address, requestId })
  setSessionCookie(ctx, cookie, '', 0)
}

/** Shows the form again for a wrong login, and for one that has to wait. Throws other errors. */
function refuse(ctx: RouteContext, audit: AuditLog, { name, next }: Attempt, error: unknown): void {
  if (!(error instanceof RegistryError)) throw error
  const { address, requestId } = ctx.state
  const form = { name, next, problem: error.message }
  if (error.code === 'UNAUTHORIZED') {
    const detail = `POST /login: ${error.message}`
    audit.enqueue({ action: 'authenticate', decision: 'refused', address, requestId, detail })
    sendForm(ctx, form, 403)
    return
  }
  if (error.code !== 'TOOMANYREQUESTS') throw error
  sendForm(ctx, form, error.status)
  ctx.set('Retry-After', String(error.data.retryAfterSeconds))
}

function sendForm(
  ctx: RouteContext,
  form: { name?: string; next: string; problem?: string },
  status = 200,
): void {
  sendPage(ctx, { title: 'Log in', status, content: <LoginPage {...form} /> })
}

function sendInsecure(ctx: RouteContext, baseUrl: string, status: number): void {
  const { origin, port } = new URL(baseUrl)
  const content = <InsecureLoginPage origin={origin} port={port === '' ? '80' : port} />
  sendPage(ctx, { title: 'Log in', status, content })
}

function goTo(ctx: RouteContext, path: string): void {
  ctx.set('Cache-Control', 'no-store')
  ctx.status = 303
  ctx.redirect(path)
}
