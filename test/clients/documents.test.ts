import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { startIssuer } from '../auth/issuer.ts'
import { PAGES_WITH_CLIENTS } from '../documents/pasted-elsewhere.ts'
import { type Pasted, type PasteOptions, pastePage } from '../documents/pasting.ts'
import { digestOf } from '../support/digest.ts'
import { freePorts } from '../support/free-ports.ts'
import { storeSettings } from '../support/s3.ts'
import { clientPath, hasClient } from './client-sandbox.ts'

const DIGEST = /sha256:[0-9a-f]{64}/
const KERNEL = 'test/fixtures/builds/hello-key-1/bin/hello-key.hvt'

type Page = { options?: Partial<PasteOptions>; check?: (pasted: Pasted, host: string) => unknown }

/** Pastes a page beside a registry on the store of this project. */
async function paste(page: string, { options = {}, check = () => {} }: Page): Promise<void> {
  const [port = 0] = await freePorts(1)
  const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret, PATH } = process.env
  await pastePage(page, {
    port,
    ...options,
    environment: {
      ...(await storeSettings()),
      ...(id === undefined || secret === undefined
        ? {}
        : { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret }),
      ...options.environment,
    },
    programs: [dirname(clientPath('oras')), ...(PATH ?? '').split(':')],
    async check(pasted) {
      await check(pasted, `127.0.0.1:${port}`)
    },
  })
}

async function digestOfTag(host: string, tag: string): Promise<string | null> {
  const answer = await fetch(`http://${host}/v2/hello/key/manifests/${tag}`)
  return answer.headers.get('docker-content-digest')
}

describe.runIf(hasClient('oras'))('a reader pastes every block of', () => {
  it('docs/push.md, and all of its ways make the same image', async () => {
    await paste('docs/push.md', {
      async check({ printed, folder }, host) {
        const digest = await digestOfTag(host, 'live')
        expect(printed).toHaveLength(6)
        for (const ways of printed.slice(1, 5)) expect(ways).toContain(digest)
        expect(await digestOfTag(host, 'latest')).toBe(digest)
        expect(existsSync(join(folder, 'pulled/opam-switch'))).toBe(true)
        const image = JSON.parse(await readFile(join(folder, 'live.json'), 'utf8'))
        expect(image).toMatchObject({ digest, inputId: expect.stringMatching(/^[0-9a-f]{64}$/) })
        expect(printed.at(-1)).toContain('"repository":"hello/key"')
      },
    })
  })

  it('spec/unikernel-image.md, and all of its ways make the same image', async () => {
    await paste('spec/unikernel-image.md', {
      async check({ printed, folder }, host) {
        const [, ...ways] = printed
        expect(ways).toHaveLength(5)
        const digest = await digestOfTag(host, 'live')
        for (const way of ways.slice(0, 3)) expect(DIGEST.exec(way)?.[0]).toBe(digest)
        expect(digestOf(await readFile(join(folder, 'build/manifest.json')))).toBe(digest)
        const pulled = await readFile(join(folder, 'build/pulled.hvt'))
        expect(pulled).toEqual(await readFile(join(folder, KERNEL)))
      },
    })
  })

  it('docs/access.md, and logins, tokens, upload URLs and trust policies work', async () => {
    const issuer = await startIssuer()
    const audience = 'registry.example.org'
    const claims = { repository_owner_id: '583231', repository: 'example/www', aud: audience }
    const ID_TOKEN = await issuer.token(claims)
    try {
      await paste('docs/access.md', {
        options: {
          variables: { ISSUER: issuer.url },
          environment: { ID_TOKEN, ROOKERY_OIDC_ALLOW_NETWORKS: '127.0.0.1' },
        },
        check({ printed }) {
          expect(printed.join('')).toContain('"access_token"')
          expect(printed.join('')).toMatch(/"tag":"v2"[\s\S]+"tags":\["v3"\]/)
        },
      })
    } finally {
      await issuer.close()
    }
  })
})

it('every page that needs a client is pasted here', async () => {
  const source = await readFile(new URL(import.meta.url), 'utf8')
  for (const page of PAGES_WITH_CLIENTS) expect(source).toContain(`paste('${page}'`)
})
