import { forEachConcurrent } from '../../async/for-each.ts'
import type { GuardedClient } from '../../outgoing/client.ts'
import { OutgoingRefusedError } from '../../outgoing/guard.ts'
import type { WebhookCache } from '../webhook-cache.ts'

/** A webhook that the network guard blocks. */
export type BlockedWebhook = { readonly webhook: string; readonly problem: string }

const LOOKUPS_AT_ONCE = 16

/**
 * Lists active webhooks whose address the network guard blocks. A host name that does not resolve is not
 * blocked.
 */
export async function listBlockedWebhooks(
  webhooks: WebhookCache,
  client: GuardedClient,
): Promise<BlockedWebhook[]> {
  const active = [...(await webhooks.current()).values()].filter(({ state }) => state === 'active')
  const blocked: BlockedWebhook[] = []
  await forEachConcurrent(active, LOOKUPS_AT_ONCE, async ({ name, url }) => {
    const problem = await findProblem(client, url)
    if (problem !== undefined) blocked.push({ webhook: name, problem })
  })
  return blocked
}

async function findProblem(client: GuardedClient, url: string): Promise<string | undefined> {
  try {
    await client.assertHostAllowed(url)
    return undefined
  } catch (error) {
    return error instanceof OutgoingRefusedError ? error.message : undefined
  }
}
