import type { MasterKey } from '../auth/master-key.ts'
import type { WebhookSecrets } from './webhook.ts'

/** Encrypts the secrets of a webhook for the database. */
export function encryptSecrets(masterKey: MasterKey, secrets: WebhookSecrets): Promise<string> {
  return masterKey.encrypt(JSON.stringify(secrets))
}

/** Decrypts the secrets of a webhook. Undefined when they were encrypted with another master key. */
export async function decryptSecrets(
  masterKey: MasterKey,
  jwe: string,
): Promise<WebhookSecrets | undefined> {
  const text = await masterKey.decrypt(jwe)
  return text === undefined ? undefined : (JSON.parse(text) as WebhookSecrets)
}
