import type { TestRegistry } from '../support/registry.ts'
import { claimsOf } from './credentials-client.ts'

export type TokenEndpointResponse = {
  token: string
  access_token: string
  token_type: string
  expires_in: number
  issued_at: string
  refresh_token?: string
  scope: string
  error?: string
  errors?: { code: string; message?: string }[]
}

/** A request to /token: a form by POST, or a query by GET. */
export type TokenEndpointRequest = {
  query?: string | [string, string][]
  form?: string | Record<string, string> | [string, string][]
  authorization?: string | undefined
  /** The address from which it comes, where 127.0.0.1 is a trusted proxy. */
  from?: string
}

export async function requestToken(
  registry: TestRegistry,
  { query = '', form, authorization, from }: TokenEndpointRequest,
) {
  const answer = await registry.anonymous(`/token?${new URLSearchParams(query)}`, {
    method: form === undefined ? 'GET' : 'POST',
    headers: {
      ...(authorization === undefined ? {} : { authorization }),
      ...(form === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
      ...(from === undefined ? {} : { 'x-forwarded-for': from }),
    },
    ...(form === undefined ? {} : { body: new URLSearchParams(form).toString() }),
  })
  const { status, headers } = answer
  return { status, headers, body: (await answer.json()) as TokenEndpointResponse }
}

type Entry = { name: string; actions: string[] }

/** The actions that a token grants, by repository. */
export function grantedBy({ token }: { token: string }): Record<string, string> {
  const granted: Record<string, Set<string>> = {}
  for (const { name, actions } of claimsOf(token).access as Entry[]) {
    granted[name] = new Set([...(granted[name] ?? []), ...actions])
  }
  return Object.fromEntries(
    Object.entries(granted).map(([name, actions]) => [name, [...actions].sort().join()]),
  )
}
