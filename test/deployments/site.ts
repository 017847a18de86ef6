import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { builder, elf } from '../cli/builder.ts'
import type { Ran } from '../cli/rookery.ts'
import { digestOf } from '../support/digest.ts'
import { enrolHost } from '../support/hosts.ts'
import type { TestRegistry } from '../support/registry.ts'
import { ALWAYS_HEALTHY, type Behaviour, SimulatedHost } from '../support/simulated-hosts.ts'

/** A kernel on the disk of a builder. */
export type Kernel = { readonly path: string; readonly digest: string }

type HostRegistry = Pick<TestRegistry, 'request' | 'anonymous'>

/** A builder and hosts that follow one tag of a registry. */
export class Site {
  readonly repository: string
  readonly hosts: SimulatedHost[] = []
  readonly #folder: string
  readonly #registry: () => HostRegistry & { readonly url: string; readonly password: string }

  private constructor(folder: string, repository: string, registry: Site['registry']) {
    this.#folder = folder
    this.repository = repository
    this.#registry = registry
  }

  get registry() {
    return this.#registry
  }

  static async create(repository: string, registry: Site['registry']): Promise<Site> {
    return new Site(await mkdtemp(join(tmpdir(), 'rookery-site-')), repository, registry)
  }

  /** Enrols and starts a host whose unit `www` follows the tag `live`. */
  async addHost(name: string, behaviour: Partial<Behaviour> = {}): Promise<SimulatedHost> {
    const connection = await enrolHost(this.#registry(), { name, repositories: [this.repository] })
    const unit = { name: 'www', repository: this.repository, tag: 'live' }
    const host = new SimulatedHost(connection, [unit], { ...ALWAYS_HEALTHY, ...behaviour })
    this.hosts.push(host)
    await host.start()
    return host
  }

  /** Makes a kernel that no other has the bytes of. */
  async newKernel(): Promise<Kernel> {
    const bytes = Buffer.concat([await readFile(elf('mini-net.hvt')), randomBytes(16)])
    const path = join(this.#folder, `${randomBytes(4).toString('hex')}.hvt`)
    await writeFile(path, bytes)
    return { path, digest: digestOf(bytes) }
  }

  get host(): string {
    return new URL(this.#registry().url).host
  }

  get image(): string {
    return `${this.host}/${this.repository}:live`
  }

  /** Runs a command as the administrator, or with a token. */
  rookery(words: readonly string[], token?: string): Promise<Ran> {
    if (token !== undefined) return builder(words, { ROOKERY_TOKEN: token })
    const login = ['--username', 'admin', '--password-stdin']
    return builder([...words, ...login], { input: this.#registry().password })
  }

  /** Pushes a kernel. Its output is without the warning that the kernel came without inputs. */
  async push(kernel: Kernel, ...words: string[]): Promise<Ran> {
    const ran = await this.rookery(['push', kernel.path, this.image, ...words])
    return { ...ran, stderr: ran.stderr.replace(/^rookery: warning: .*missing inputs.*\n/, '') }
  }

  async remove(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.kill()))
    await rm(this.#folder, { recursive: true, force: true })
  }
}
