import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listPages } from '../house/tree.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { freePorts } from '../support/free-ports.ts'
import { type Receiver, startReceiver } from '../webhooks/receiver.ts'
import { PAGES_WITH_CLIENTS } from './pasted-elsewhere.ts'
import { type PasteOptions, pastableBlocksOf, pastePage } from './pasting.ts'

const TEST_MILLISECONDS_MAX = 180_000
/** Pages that other tests paste: `readme.test.ts` and those of clients. */
const OWN_TEST = ['README.md', ...PAGES_WITH_CLIENTS]
/** Pages whose commands need a second Postgres, or that name one: the embedded one is there for each data folder. */
const EMBEDDED = ['docs/operations.md', 'docs/settings.md']
const pages = listPages().filter(
  (page) => !OWN_TEST.includes(page) && pastableBlocksOf(page).length > 0,
)

let receiver: Receiver
let database: TestDatabase

beforeAll(async () => {
  receiver = await startReceiver()
  database = await createTestDatabase('template1')
})

afterAll(async () => {
  await receiver.close()
  await database.drop()
})

/** Returns the needs of a page beside a registry. A page without a row has none. */
function optionsOf(page: string): Partial<PasteOptions> {
  const rows: Record<string, Partial<PasteOptions>> = {
    'docs/deploy.md': {
      systemFolders: [
        ...['/etc/systemd/system', '/etc/unikernels', '/etc/rookery'],
        ...['/usr/local/lib', '/usr/local/bin'],
      ],
      environment: {
        AGENT_CONFIG: 'FRESH_FOLDER/system/etc/rookery',
        AGENT_STATE: 'FRESH_FOLDER/system/var/lib/rookery',
      },
      async check({ printed, folder }) {
        expect(printed.join('')).toMatch(/web-1 is enrolled[\s\S]+www {2}absent {2}runs nothing/)
        const environment = await readFile(join(folder, 'system/etc/unikernels/www.env'), 'utf8')
        expect(environment).toMatch(/^NETRC=/m)
        const netrc = await readFile(join(folder, 'system/etc/unikernels/netrc'), 'utf8')
        expect(netrc).toMatch(/^machine registry\.example\.org login host-7 password rky_\S+\n$/)
      },
    },
    'docs/install.md': {
      systemFolders: ['/etc/nginx/conf.d', '/etc/caddy'],
      async check({ folder }) {
        const nginx = await readFile(join(folder, 'system/etc/nginx/conf.d/rookery.conf'), 'utf8')
        expect(nginx).toContain('server_name registry.example.org;')
      },
    },
    'docs/operations.md': { variables: { BACKUP: 'backup' } },
    'docs/settings.md': { variables: { ROOKERY_DATABASE_URL: database.url } },
    'docs/webhooks.md': {
      variables: { RECEIVER: receiver.url },
      environment: {
        ROOKERY_WEBHOOK_ALLOW_NETWORKS: '127.0.0.1',
        // The registry issues tokens for a receiver.
        ROOKERY_PUBLIC_URL: 'https://registry.example.org',
      },
      async check({ printed }) {
        expect(printed[0]).toContain('204')
        expect(printed.join('')).toContain('g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
      },
    },
  }
  return rows[page] ?? {}
}

describe('a reader pastes every block of', () => {
  it.each(pages)('%s', { timeout: TEST_MILLISECONDS_MAX }, async (page) => {
    const [port = 0] = await freePorts(1)
    const { environment, ...options } = optionsOf(page)
    const own = await createTestDatabase('template1')
    const given = EMBEDDED.includes(page) ? {} : { ROOKERY_DATABASE_URL: own.url }
    await pastePage(page, {
      ...{ port, ignoresFiles: true },
      ...options,
      environment: { ...given, ...environment },
    })
    await own.drop()
  })
})
