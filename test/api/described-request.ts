import { expect } from 'vitest'
import { expectAnswer } from './expect-answer.ts'
import { expectRequest } from './expect-request.ts'
import { nodeOf } from './openapi-document.ts'

/** Sends a request to a registry; `TestRegistry` has two such methods. */
export type RequestFunction = (path: string, init?: RequestInit) => Promise<Response>

export type CallResult = {
  readonly status: number
  readonly headers: Headers
  /** Empty unless the body is an object. */
  readonly body: Readonly<Record<string, unknown>>
}

/** Sends a request, and checks request and response against the description. `sent` is sent as JSON unless it is a form. */
export async function call(
  ask: RequestFunction,
  method: string,
  path: string,
  sent?: unknown,
  headers: Record<string, string> = {},
): Promise<CallResult> {
  const answer = await ask(path, { method, ...bodyOf(sent, headers) })
  const body = await expectAnswer(method, path, answer)
  const { status } = answer
  if (status < 400) expectRequest(method, path, sent)
  return { status, headers: answer.headers, body: body === undefined ? {} : nodeOf(body) }
}

/** Returns the URL of the next page; undefined on the last. */
export function nextPage({ headers }: CallResult): string | undefined {
  return /<([^>]+)>; rel="next"/.exec(headers.get('link') ?? '')?.[1]
}

const PAGES_MAX = 50

/** Reads the whole list of that name, page by page, and checks each page against the description. */
export async function listAll(
  ask: RequestFunction,
  path: string,
  name: string,
): Promise<unknown[]> {
  const found: unknown[] = []
  let next: string | undefined = path
  for (let page = 0; next !== undefined; page += 1) {
    expect(page).toBeLessThan(PAGES_MAX)
    const answer: CallResult = await call(ask, 'GET', next)
    found.push(...Object.values(nodeOf(answer.body[name])))
    next = nextPage(answer)
  }
  return found
}

function bodyOf(sent: unknown, headers: Record<string, string>): RequestInit {
  if (sent === undefined) return { headers }
  if (sent instanceof FormData || sent instanceof Blob) return { body: sent, headers }
  const body = typeof sent === 'string' ? sent : JSON.stringify(sent)
  return { body, headers: { 'content-type': 'application/json', ...headers } }
}
