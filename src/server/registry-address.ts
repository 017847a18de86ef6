import type { Config } from '../config/config.ts'

const LOOPBACK: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '[::]': '[::1]' }

/** Host and port that clients put before a repository's name, such as `registry.example.org`. */
export class RegistryAddress {
  #url: URL
  readonly #isPublic: boolean

  constructor({ publicUrl }: Config) {
    this.#url = new URL(publicUrl ?? 'http://localhost')
    this.#isPublic = publicUrl !== undefined
  }

  /** Sets the URL on which the server listens; without a public URL, it is the address. */
  listensAt(url: string): void {
    if (!this.#isPublic) this.#url = new URL(url)
  }

  get host(): string {
    const { host, hostname } = this.#url
    return this.#isPublic ? host : host.replace(hostname, LOOPBACK[hostname] ?? hostname)
  }
}
