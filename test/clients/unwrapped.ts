import { expect } from 'vitest'
import { type ClientSandbox, PASSWORD } from './client-sandbox.ts'

/** Expects that a host gets these bytes as the kernel of a tag. */
export async function expectKernelOf(
  { host }: ClientSandbox,
  reference: string,
  bytes: Buffer,
): Promise<void> {
  const [, repository = '', tag = ''] = /^[^/]+\/(.*):([^:]+)$/.exec(reference) ?? []
  const url = `http://${host}/api/v1/repositories/${repository}/images/${tag}/kernel`
  const authorization = `Basic ${Buffer.from(`admin:${PASSWORD}`).toString('base64')}`
  const answer = await fetch(url, { headers: { authorization } })
  expect({ url, status: answer.status }).toEqual({ url, status: 200 })
  expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true)
}
