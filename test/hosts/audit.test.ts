import { afterAll, beforeAll, expect, it } from 'vitest'
import { assertionOf, makeHostKey } from '../support/hosts.ts'
import { HostsClient } from './hosts-client.ts'

let client: HostsClient

type Entry = {
  readonly action: string
  readonly decision: string
  readonly actor: string | null
  readonly address: string | null
  readonly detail: string | null
}

beforeAll(async () => {
  client = await HostsClient.open({ ROOKERY_HOST_ENROLMENT: 'approve' })
})
afterAll(() => client.registry.close())

async function entriesOf(action: string): Promise<Entry[]> {
  const answer = await client.registry.request(`/api/v1/audit?n=100&action=${action}`)
  return ((await answer.json()) as { entries: Entry[] }).entries
}

it('the approval of a host, its tokens and the rotation of its key are in the audit log, with who, whence and which key', async () => {
  const [key, next] = [makeHostKey(), makeHostKey()]
  expect((await client.ask('web-1', key)).status).toBe(202)
  const approval = { fingerprint: key.thumbprint, repositories: ['builds/*'] }
  const path = '/api/v1/hosts/web-1'
  expect((await client.send('POST', `${path}/approve`, approval)).status).toBe(200)
  expect(await entriesOf('approve-host')).toMatchObject([
    {
      ...{ decision: 'allowed', actor: 'admin', address: expect.any(String) },
      detail: `web-1, key ${key.thumbprint}: builds/*`,
    },
  ])
  const from = { 'x-forwarded-for': '192.0.2.7' }
  const minted = await client.mint(key, from)
  const { access_token: token } = (await minted.json()) as { access_token: string }
  const mints = (await entriesOf('mint')).filter(({ actor }) => actor === 'host:web-1')
  expect(mints).toMatchObject([{ decision: 'allowed', address: '192.0.2.7' }])
  const fields = client.keyed(next, { assertion: assertionOf(key, client.audience) })
  const rotate = { ...from, authorization: `Bearer ${token}` }
  const rotated = await client.send('POST', `${path}/keys`, { ...fields, jwk: next.jwk }, rotate)
  expect(rotated.status).toBe(200)
  expect(await entriesOf('rotate-host-key')).toMatchObject([
    {
      ...{ decision: 'allowed', actor: 'host:web-1', address: '192.0.2.7' },
      detail: `web-1, key ${next.thumbprint}`,
    },
  ])
  const whole = await (await client.registry.request('/api/v1/audit?n=1000')).text()
  for (const secret of [token, fields.proof]) expect(whole).not.toContain(secret)
})

it('a rotation without a valid token is no rotation in the audit log', async () => {
  const before = await entriesOf('rotate-host-key')
  const key = makeHostKey()
  const fields = client.keyed(key, { assertion: assertionOf(key, client.audience) })
  const answer = await client.send(
    'POST',
    '/api/v1/hosts/web-1/keys',
    { ...fields, jwk: key.jwk },
    { authorization: 'Bearer nonsense' },
  )
  expect(answer.status).toBe(401)
  expect(await entriesOf('rotate-host-key')).toEqual(before)
})
