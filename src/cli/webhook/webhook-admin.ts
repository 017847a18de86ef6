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

/** Administration of the webhooks of a registry, on this machine or over the network. */
export type WebhookAdmin = {
  create(request: WebhookRequest): Promise<CreatedWebhook>
  list(): Promise<readonly WebhookView[]>
  find(name: string): Promise<WebhookView>
  change(name: string, change: WebhookChange): Promise<WebhookView>
  remove(name: string): Promise<void>
  /** Sends webhook.ping. Returns the id of its event. */
  test(name: string): Promise<string>
  rotateSecret(
    name: string,
    secret: string | undefined,
    overlapSeconds: number | undefined,
  ): Promise<CreatedWebhook>
  /** Lists deliveries, newest first. */
  deliveries(
    name: string,
    state: DeliveryState | undefined,
    limit: number,
  ): Promise<readonly Delivery[]>
  /** Returns undefined when there is none, or none yet. */
  delivery(name: string, event: string): Promise<DeliveryDetail | undefined>
  redeliver(name: string, event: string): Promise<void>
  redeliverRange(name: string, range: RedeliveryRange): Promise<RedeliveryResult>
}
