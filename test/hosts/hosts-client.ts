import {
  assertionOf,
  issuerOf,
  JWT_BEARER,
  keyFields,
  postForm,
  type TestHostKey,
} from '../support/hosts.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'

/** A registry with private repositories, behind a trusted proxy, and requests of hosts to it. */
export class HostsClient {
  readonly registry: TestRegistry
  readonly audience: string

  private constructor(registry: TestRegistry, audience: string) {
    this.registry = registry
    this.audience = audience
  }

  static async open(settings: Record<string, string> = {}): Promise<HostsClient> {
    const registry = await startRegistry({
      ROOKERY_DEFAULT_VISIBILITY: 'private',
      ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
      ...settings,
    })
    return new HostsClient(registry, await issuerOf(registry))
  }

  /** The public key with its proof, and other fields. */
  keyed(key: TestHostKey, more: Record<string, string> = {}) {
    return keyFields(key, this.audience, more)
  }

  enrol(fields: Record<string, string>, from = '192.0.2.1'): Promise<Response> {
    return postForm(this.registry, '/api/v1/hosts/enrol', fields, { 'x-forwarded-for': from })
  }

  /** Enrols without a code. */
  ask(name: string, key: TestHostKey, from?: string): Promise<Response> {
    return this.enrol(this.keyed(key, { name }), from)
  }

  /** Requests a token with an assertion of the key. */
  mint(key: TestHostKey, headers: Record<string, string> = {}): Promise<Response> {
    return this.exchange(assertionOf(key, this.audience), headers)
  }

  /** Requests a token with an assertion. */
  exchange(assertion: string, headers: Record<string, string> = {}): Promise<Response> {
    return postForm(this.registry, '/token', { grant_type: JWT_BEARER, assertion }, headers)
  }

  /** Sends JSON, as the administrator unless another authorization is given. */
  send(
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Response> {
    const { anonymous, request } = this.registry
    return (headers.authorization === undefined ? request : anonymous)(path, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
  }
}
