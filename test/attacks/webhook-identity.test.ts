import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { removeExpiredRevocations } from '../../src/db/auth/revocations.ts'
import { Database } from '../../src/db/database.ts'
import { openTokenMinter, sql } from '../auth/credentials-client.ts'
import { pushImage } from '../support/push.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { type Receiver, startReceiver } from '../webhooks/receiver.ts'
import {
  adminWebhookClient,
  createWebhookAs,
  credentialWebhookClient,
  type WebhookClient,
  webhookClient,
  webhookRequest,
} from '../webhooks/webhook-client.ts'

const AUDIENCE = 'notification-controller'
const LISTED = 'https://listed.example/app'
/** A worker asks again for owners after two seconds. */
const OWNERS_CACHED_MILLISECONDS = 2_500
const LOOPBACK = '127.0.0.0/8'

let registry: TestRegistry
let admin: WebhookClient
let tenant: WebhookClient

beforeAll(async () => {
  registry = await startRegistry({
    ROOKERY_PUBLIC_URL: 'https://registry.example',
    ROOKERY_WEBHOOK_AUDIENCES: 'https://listed.example/*',
    ROOKERY_WEBHOOK_ALLOW_NETWORKS: LOOPBACK,
  })
  admin = adminWebhookClient(registry)
  const credential = { repositories: ['w/**'], actions: ['admin', 'pull'] }
  tenant = (await credentialWebhookClient(registry, credential)).client
})
afterAll(() => registry.close())

const audience = (oidcAudience: string | null) => ({ authentication: { oidcAudience } })
const ofTenant = (oidcAudience: string) =>
  webhookRequest({ repositories: ['w/**'], ...audience(oidcAudience) })

/** Sends a ping and returns the claims of the token that arrives. */
async function claimsAt(receiver: Receiver, client: WebhookClient, name: string) {
  const before = receiver.received.length
  await client('POST', `/${name}/test`)
  await expect.poll(() => receiver.received.length, { timeout: 10_000 }).toBe(before + 1)
  const authorization = String(receiver.received.at(-1)?.headers.authorization)
  return decodeJwt(authorization.slice('Bearer '.length))
}

describe('the identity of a webhook', () => {
  it('is an id that a webhook with the same name does not get', async () => {
    const receiver = await startReceiver()
    const settings = { url: receiver.url, ...audience(AUDIENCE) }
    const first = await createWebhookAs(admin, settings)
    const claims = await claimsAt(receiver, admin, first.name)
    expect(claims).toMatchObject({ aud: AUDIENCE, webhook: first.name, owner: expect.any(String) })
    expect(claims.sub).toBe(first.authentication.oidcSubject)
    expect(claims.sub).not.toContain(first.name)
    await admin('DELETE', `/${first.name}`)
    const second = await createWebhookAs(admin, { ...settings, name: first.name })
    expect((await claimsAt(receiver, admin, second.name)).sub).not.toBe(claims.sub)
    await receiver.close()
  })

  it('does not move to another URL, and the audience must be given again', async () => {
    const { name, authentication } = await createWebhookAs(admin, audience(AUDIENCE))
    const moved = { url: 'https://stolen.example/hook' }
    const refused = await admin('PATCH', `/${name}`, moved)
    expect(refused.status).toBe(400)
    expect(refused.body.errors[0].message).toContain('oidcAudience')
    const { status, body } = await admin('PATCH', `/${name}`, { ...moved, ...audience(AUDIENCE) })
    expect(status).toBe(200)
    expect(body.authentication.oidcSubject).not.toBe(authentication.oidcSubject)
    const same = await admin('PATCH', `/${name}`, { description: 'a text' })
    expect(same.body.authentication.oidcSubject).toBe(body.authentication.oidcSubject)
  })
})

describe('a webhook of an owner who is no administrator', () => {
  it('gets tokens only for listed audiences', async () => {
    for (const wanted of [
      'sts.amazonaws.com',
      'vault',
      'https://kubernetes.default.svc',
      AUDIENCE,
    ]) {
      expect((await tenant('POST', '', ofTenant(wanted))).status).toBe(403)
    }
    expect((await tenant('POST', '', ofTenant('https://listed.example/a/b'))).status).toBe(403)
    const { status, body } = await tenant('POST', '', ofTenant(LISTED))
    expect(status).toBe(201)
    expect((await tenant('PATCH', `/${body.name}`, audience('vault'))).status).toBe(403)
    expect((await tenant('PATCH', `/${body.name}`, audience(null))).status).toBe(200)
  })

  it("cannot be made of an administrator's webhook with another audience", async () => {
    const { name } = await createWebhookAs(admin, { repositories: ['w/**'], ...audience(AUDIENCE) })
    const stolen = { url: 'https://stolen.example/hook' }
    expect((await tenant('PATCH', `/${name}`, { description: 'mine' })).status).toBe(403)
    expect((await tenant('PATCH', `/${name}`, stolen)).status).toBe(403)
    const named = { ...stolen, ...audience(AUDIENCE) }
    expect((await tenant('PATCH', `/${name}`, named)).status).toBe(403)
  })

  it('ends when the token of the operator that made it is revoked', async () => {
    const minter = await openTokenMinter(registry)
    const access = [
      { type: 'repository', name: 'w/**', actions: ['admin', 'pull', 'push'] },
    ] as const
    const minted = await minter.tokens.mint({ subject: 'ci', access: [...access] }, 300)
    await minter.close()
    const holder = webhookClient(registry, `Bearer ${minted.token}`)
    const receiver = await startReceiver()
    const settings = { url: receiver.url, repositories: ['w/**'] }
    const { name } = await createWebhookAs(holder, settings)
    await pushImage(registry, 'w/image', 'v1')
    await expect.poll(() => receiver.received.length, { timeout: 10_000 }).toBeGreaterThan(0)
    const revoke = `/api/v1/tokens/${minted.tokenId}`
    expect((await registry.request(revoke, { method: 'DELETE' })).status).toBe(204)
    // Time alone does not bring it back: the revocation stays as long as the webhook.
    const old = `update revocations set expires_at = now() - interval '1 day' where subject = $1`
    await sql(registry, old, [`token:${minted.tokenId}`])
    const db = new Database({
      connection: registry.databaseUrl,
      connectionsMax: 1,
      onIdleError: () => {},
    })
    await removeExpiredRevocations(db)
    await db.close()
    await new Promise((resolve) => setTimeout(resolve, OWNERS_CACHED_MILLISECONDS))
    const before = receiver.received.length
    await pushImage(registry, 'w/image', 'secret')
    const state = async () => (await admin('GET', `/${name}`)).body.state
    await expect.poll(state, { timeout: 10_000 }).toBe('disabled')
    expect(receiver.received.length).toBe(before)
    await receiver.close()
  }, 30_000)

  it('and of administrators, sends no cookie and no header of a metadata service', async () => {
    const names = ['Cookie', 'Host', 'Metadata', 'Metadata-Flavor', 'X-aws-ec2-metadata-token']
    for (const header of [
      ...names,
      'X-aws-ec2-metadata-token-ttl-seconds',
      'X-Google-Metadata-Request',
    ]) {
      const request = webhookRequest({ repositories: ['w/**'], headers: { [header]: 'x' } })
      expect((await tenant('POST', '', request)).status, header).toBe(400)
      expect((await admin('POST', '', request)).status, header).toBe(400)
    }
  })

  it('is not sent to the platform address of a cloud', async () => {
    for (const host of ['168.63.129.16', '169.254.169.254', '100.100.100.200', '192.0.0.192']) {
      const request = webhookRequest({ repositories: ['w/**'], url: `https://${host}/metadata` })
      expect((await tenant('POST', '', request)).status, host).toBe(400)
    }
  })
})
