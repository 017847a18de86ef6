import { expect } from 'vitest'
import { hashSecret } from '../../src/auth/secrets.ts'
import type { TestRegistry } from '../support/registry.ts'
import { sql } from './credentials-client.ts'

type Login = { readonly name?: string; readonly secret: string; readonly next?: string }

/** Headers by name. `x-forwarded-for` and `x-forwarded-proto` count where 127.0.0.1 is a trusted proxy. */
export type SentHeaders = Readonly<Record<string, string>>

type Server = Pick<TestRegistry, 'url'>

const FORM = { 'content-type': 'application/x-www-form-urlencoded' }

/** Sends a form, as a browser does. */
export async function sendForm(
  server: Server,
  path: string,
  fields: Readonly<Record<string, string>>,
  headers: SentHeaders = {},
): Promise<Response> {
  return fetch(new URL(path, server.url), {
    method: 'POST',
    redirect: 'manual',
    headers: { ...FORM, ...headers },
    body: new URLSearchParams(fields).toString(),
  })
}

/** Sends the form of /login. */
export function sendLogin(server: Server, login: Login, headers?: SentHeaders): Promise<Response> {
  return sendForm(server, '/login', login, headers)
}

/** Logs in and returns the cookie, as a browser sends it. */
export async function logIn(server: Server, login: Login, headers?: SentHeaders): Promise<string> {
  const answer = await sendLogin(server, login, headers)
  expect([answer.status, await answer.text()]).toEqual([303, expect.any(String)])
  return cookieOf(answer)
}

/** Returns the one cookie that an answer sets, without its attributes. */
export function cookieOf(answer: Response): string {
  const cookies = answer.headers.getSetCookie()
  expect(cookies).toHaveLength(1)
  return cookies[0]?.split(';')[0] ?? ''
}

/** Returns the name in the head of a page; undefined when nobody is logged in. */
export async function nameOnPage(
  server: Server,
  cookie: string,
  headers: SentHeaders = {},
): Promise<string | undefined> {
  const answer = await fetch(server.url, { headers: { cookie, ...headers } })
  expect(answer.status).toBe(200)
  return /<form class="session"[^>]*><span>([^<]*)</.exec(await answer.text())?.[1]
}

/** Returns the secret of a cookie. */
export function secretOf(cookie: string): string {
  return cookie.slice(cookie.indexOf('=') + 1)
}

/** Returns the row of a session: its remaining seconds, and a text that every change of the row changes. */
export function sessionRows(registry: Pick<TestRegistry, 'databaseUrl'>, cookie: string) {
  return sql<{ seconds: number; version: string }>(
    registry,
    `select extract(epoch from ends_at - now())::int as seconds, xmin::text as version
       from sessions
      where secret_sha256 = $1`,
    [hashSecret(secretOf(cookie))],
  )
}
