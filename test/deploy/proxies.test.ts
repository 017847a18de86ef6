import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { readPage } from '../house/tree.ts'

const NGINX = readPage('deploy/nginx/rookery.conf')
const INGRESS = readPage('deploy/kubernetes/ingress/ingress.yaml')
const MARGIN_SECONDS = 60

/** Returns the longest time that a client may ask the registry to wait. */
function waitSecondsMax(): number {
  const found = readPage('spec/openapi.yaml').matchAll(
    /- name: wait\n(?: {10}.*\n)*? {10}schema: .*maximum: (\d+)/g,
  )
  const seconds = [...found].map(([, text]) => Number(text))
  expect(seconds.length).toBeGreaterThan(2)
  return Math.max(...seconds)
}

describe('a proxy waits for longer than clients do', () => {
  it('nginx between two bytes of an answer or of a body', () => {
    const times = [...NGINX.matchAll(/^\s+proxy_(?:read|send)_timeout (\d+)s;$/gm)]
    expect(times).toHaveLength(2)
    for (const [, seconds] of times) {
      expect(Number(seconds)).toBeGreaterThanOrEqual(waitSecondsMax() + MARGIN_SECONDS)
    }
  })

  it('Caddy without a limit', () => {
    expect(readPage('deploy/caddy/Caddyfile')).not.toMatch(/timeout|buffer/)
  })

  it('the ingress as nginx', () => {
    const { metadata } = parse(INGRESS) as { metadata: { annotations: Record<string, string> } }
    for (const name of ['proxy-read-timeout', 'proxy-send-timeout']) {
      const seconds = Number(metadata.annotations[`nginx.ingress.kubernetes.io/${name}`])
      expect(seconds).toBeGreaterThanOrEqual(waitSecondsMax() + MARGIN_SECONDS)
    }
  })
})
