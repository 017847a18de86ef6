import type { ClientSandbox } from './client-sandbox.ts'

export type Secret = { name: string; secret: string }

/** Creates a credential for the repositories of one pattern. */
export async function makeCredential(
  sandbox: ClientSandbox,
  name: string,
  repositories: string,
  actions: readonly string[] = ['pull', 'push'],
  tags?: readonly string[],
): Promise<Secret> {
  const request = { name, repositories: [repositories], actions, ...(tags && { tags }) }
  return (await (await sandbox.api('POST', 'credentials', request)).json()) as Secret
}

export async function makePrivate(sandbox: ClientSandbox, repository: string): Promise<void> {
  await sandbox.api('PUT', `repositories/${repository}/settings`, { visibility: 'private' })
}
