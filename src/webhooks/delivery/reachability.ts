import type { GuardedClient } from '../../outgoing/client.ts'
import { OutgoingRefusedError } from '../../outgoing/guard.ts'
import type { WebhookCache } from '../webhook-cache.ts'

/** A webhook that the network guard blocks. */
export type BlockedWebhook = { readonly webhook: string; readonly problem: string }

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
  // One after the other, so that the names of deliveries wait for one look-up at most.
  for (const { name, url } of active) {
    const problem = await findProblem(client, url)
    if (problem !== undefined) blocked.push({ webhook: name, problem })
  }
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
