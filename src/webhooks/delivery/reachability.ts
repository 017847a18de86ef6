import type { GuardedClient } from '../../outgoing/client.ts'
import { OutgoingRefusedError } from '../../outgoing/guard.ts'
import type { WebhookCache } from '../webhook-cache.ts'

/** An endpoint to which nothing can go out. */
export type BlockedWebhook = { readonly webhook: string; readonly problem: string }

const LOOKED_UP_AT_ONCE = 16

/** Endpoints that the network guard would not let out now; a name that cannot be looked up is none. */
export async function listBlockedWebhooks(
  endpoints: WebhookCache,
  client: GuardedClient,
): Promise<BlockedWebhook[]> {
  const all = [...(await endpoints.current()).values()].filter(({ state }) => state === 'active')
  const blocked: BlockedWebhook[] = []
  for (let from = 0; from < all.length; from += LOOKED_UP_AT_ONCE) {
    const some = all.slice(from, from + LOOKED_UP_AT_ONCE)
    const problems = await Promise.all(some.map(({ url }) => problemOf(client, url)))
    some.forEach(({ name }, index) => {
      const problem = problems[index]
      if (problem !== undefined) blocked.push({ webhook: name, problem })
    })
  }
  return blocked
}

async function problemOf(client: GuardedClient, url: string): Promise<string | undefined> {
  try {
    await client.assertHostAllowed(url)
    return undefined
  } catch (error) {
    return error instanceof OutgoingRefusedError ? error.message : undefined
  }
}
