import { RegistryResponseError } from '../../client/errors.ts'
import type { RegistryApi } from '../../client/registry-api.ts'
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
import { LISTED_MAX } from '../numbers.ts'
import { queryOf } from '../registry/api-client.ts'
import type { WebhookAdmin } from './webhook-admin.ts'

const PATH = '/api/v1/webhooks'

/** The webhooks of a registry over the network: spec/openapi.yaml defines the API. */
export class ApiWebhookAdmin implements WebhookAdmin {
  readonly #api: RegistryApi

  constructor(api: RegistryApi) {
    this.#api = api
  }

  async create({ secret, authentication, ...request }: WebhookRequest): Promise<CreatedWebhook> {
    const body = { ...request, authentication: { ...authentication, secret } }
    return (await this.#api.send('POST', PATH, nameOf(request.name), body)) as CreatedWebhook
  }

  async list(): Promise<readonly WebhookView[]> {
    return (await this.#api.list(PATH, 'webhooks', 'the webhooks', LISTED_MAX)) as WebhookView[]
  }

  async find(name: string): Promise<WebhookView> {
    return (await this.#api.find(pathOf(name), nameOf(name))) as WebhookView
  }

  async change(name: string, change: WebhookChange): Promise<WebhookView> {
    return (await this.#api.send('PATCH', pathOf(name), nameOf(name), change)) as WebhookView
  }

  async remove(name: string): Promise<void> {
    await this.#api.send('DELETE', pathOf(name), nameOf(name), undefined)
  }

  async test(name: string): Promise<string> {
    const path = pathOf(name, 'test')
    const { event } = (await this.#api.send('POST', path, nameOf(name), undefined)) as {
      event: string
    }
    return event
  }

  async rotateSecret(
    name: string,
    secret: string | undefined,
    overlapSeconds: number | undefined,
  ): Promise<CreatedWebhook> {
    const path = pathOf(name, 'rotate-secret')
    const body = { secret, overlapSeconds }
    return (await this.#api.send('POST', path, nameOf(name), body)) as CreatedWebhook
  }

  async deliveries(
    name: string,
    state: DeliveryState | undefined,
    limit: number,
  ): Promise<readonly Delivery[]> {
    const path = `${pathOf(name, 'deliveries')}${queryOf({ state, n: String(limit) })}`
    return (await this.#api.list(path, 'deliveries', nameOf(name), limit)) as Delivery[]
  }

  async delivery(name: string, event: string): Promise<DeliveryDetail | undefined> {
    try {
      return (await this.#api.find(deliveryPath(name, event), nameOf(name))) as DeliveryDetail
    } catch (error) {
      if (error instanceof RegistryResponseError && error.code === 'NOT_FOUND') return undefined
      throw error
    }
  }

  async redeliver(name: string, event: string): Promise<void> {
    const path = `${deliveryPath(name, event)}/redeliver`
    await this.#api.send('POST', path, nameOf(name), undefined)
  }

  async redeliverRange(name: string, range: RedeliveryRange): Promise<RedeliveryResult> {
    const path = pathOf(name, 'redeliver')
    return (await this.#api.send('POST', path, nameOf(name), range)) as RedeliveryResult
  }
}

/** The webhook in messages. */
function nameOf(name: string): string {
  return `the webhook ${name}`
}

function pathOf(name: string, below?: string): string {
  const path = `${PATH}/${encodeURIComponent(name)}`
  return below === undefined ? path : `${path}/${below}`
}

function deliveryPath(name: string, event: string): string {
  return pathOf(name, `deliveries/${encodeURIComponent(event)}`)
}
