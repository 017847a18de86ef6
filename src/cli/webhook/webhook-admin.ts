import type {
  CreatedWebhook,
  Delivery,
  DeliveryDetail,
  DeliveryState,
  RedeliveryRange,
  RedeliveryResult,
  WebhookChange,
  WebhookRequest,
  WebhookView,
} from '../../webhooks/management/types.ts'

/** What commands ask of the webhooks of a registry, on this machine or far away. */
export type WebhookAdmin = {
  create(request: WebhookRequest): Promise<CreatedWebhook>
  list(): Promise<readonly WebhookView[]>
  find(name: string): Promise<WebhookView>
  change(name: string, change: WebhookChange): Promise<WebhookView>
  remove(name: string): Promise<void>
  /** The id of the event that is sent. */
  test(name: string): Promise<string>
  rotateSecret(
    name: string,
    secret: string | undefined,
    overlapSeconds: number | undefined,
  ): Promise<CreatedWebhook>
  /** The newest first. */
  deliveries(
    name: string,
    state: DeliveryState | undefined,
    limit: number,
  ): Promise<readonly Delivery[]>
  /** Undefined when there is none, or none yet. */
  delivery(name: string, event: string): Promise<DeliveryDetail | undefined>
  redeliver(name: string, event: string): Promise<void>
  redeliverRange(name: string, range: RedeliveryRange): Promise<RedeliveryResult>
}
