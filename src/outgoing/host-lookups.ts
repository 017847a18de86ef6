import { lookup, Resolver } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'

/** Resolves a host name to all its addresses. */
export type Resolve = (name: string) => Promise<readonly string[]>

/** Each attempt; the limit of the connection covers all of them. */
const DNS_MILLISECONDS_MAX = 1_500
const DNS_ATTEMPTS_MAX = 2
/** The limit of resolv.conf(5). */
const SEARCHED_MAX = 6
const ABSENT: readonly unknown[] = ['ENOTFOUND', 'ENODATA']

/**
 * Looks up names of other servers. Asks name servers directly: the resolver of the system blocks one of the few threads
 * of the process, which the store and the database need, for as long as the name server of a host wants. Only names
 * that this machine knows itself are looked up there: names without a dot, and those of /etc/hosts.
 */
export class HostLookups {
  readonly #servers: readonly string[] | undefined

  /** `servers`: addresses with ports, instead of those of the system. */
  constructor(servers?: readonly string[]) {
    this.#servers = servers
  }

  /** Returns the addresses of a host. Throws the error of the resolver. */
  async resolve(name: string): Promise<readonly string[]> {
    if (await isNameOfMachine(name)) return lookUpOnMachine(name)
    const domains = name.endsWith('.') ? [] : await searchDomains()
    let absent: unknown
    for (const candidate of [name, ...domains.map((domain) => `${name}.${domain}`)]) {
      try {
        return await this.#ask(candidate)
      } catch (error) {
        if (!isAbsent(error)) throw error
        absent ??= error
      }
    }
    throw absent
  }

  /** Asks for the addresses of both families. Throws the error of IPv4 when there are none. */
  async #ask(name: string): Promise<string[]> {
    // A new one each time, because the name servers of the system may have changed.
    const resolver = new Resolver({ timeout: DNS_MILLISECONDS_MAX, tries: DNS_ATTEMPTS_MAX })
    if (this.#servers !== undefined) resolver.setServers(this.#servers)
    const [four, six] = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)])
    const addresses = [four, six].flatMap((one) => (one.status === 'fulfilled' ? one.value : []))
    if (addresses.length > 0) return addresses
    const failed = [four, six].flatMap((one) => (one.status === 'rejected' ? [one.reason] : []))
    throw failed.find((reason) => !isAbsent(reason)) ?? failed[0]
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && ABSENT.includes(error.code)
}

async function isNameOfMachine(name: string): Promise<boolean> {
  if (!name.includes('.') || name.endsWith('.localhost')) return true
  const words = (await textOf('/etc/hosts')).replace(/#.*/g, '').toLowerCase().split(/\s+/)
  return words.includes(name.toLowerCase())
}

async function lookUpOnMachine(name: string): Promise<string[]> {
  const found = await lookup(name, { all: true })
  return found.map(({ address }) => address)
}

/** The domains that a name is completed with, as in a cluster of Kubernetes: resolv.conf(5), `search`. */
async function searchDomains(): Promise<string[]> {
  const lines = (await textOf('/etc/resolv.conf')).split('\n')
  const last = lines.findLast((line) => /^(?:search|domain)\s/.test(line)) ?? ''
  return last.split(/\s+/).slice(1).filter(Boolean).slice(0, SEARCHED_MAX)
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    return ''
  }
}
