import type {
  Delivery,
  DeliveryDetail,
  DeliveryState,
  MadeWebhook,
  Redelivered,
  RedeliveryRange,
  Webhook,
  WebhookChange,
  WebhookRequest,
} from '../webhooks/management/types.ts'

/** What commands ask of the webhooks of a registry, on this machine or far away. */
export type WebhookDesk = {
  create(request: WebhookRequest): Promise<MadeWebhook>
  list(): Promise<readonly Webhook[]>
  named(name: string): Promise<Webhook>
  change(name: string, change: WebhookChange): Promise<Webhook>
  remove(name: string): Promise<void>
  /** The id of the event that is sent. */
  test(name: string): Promise<string>
  rotateSecret(
    name: string,
    secret: string | undefined,
    overlapSeconds: number | undefined,
  ): Promise<MadeWebhook>
  /** The newest first. */
  deliveries(
    name: string,
    state: DeliveryState | undefined,
    limit: number,
  ): Promise<readonly Delivery[]>
  /** Undefined when there is none, or none yet. */
  delivery(name: string, event: string): Promise<DeliveryDetail | undefined>
  redeliver(name: string, event: string): Promise<void>
  redeliverRange(name: string, range: RedeliveryRange): Promise<Redelivered>
}
