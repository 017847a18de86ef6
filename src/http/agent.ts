import { readFile } from 'node:fs/promises'
import { digestOf } from '../oci/digest.ts'
import { entityTag, isNotModified } from './preconditions.ts'
import type { Route, RouteContext } from './route.ts'

const FILE = new URL('../../agent/rookery-agent', import.meta.url)

/** Serves the agent of hosts, which is one file, and its checksum as `sha256sum` reads it. */
export function agentRoutes(): Route[] {
  let agent: Promise<string> | undefined
  const read = () => {
    agent ??= readFile(FILE, 'utf8')
    return agent
  }
  return [
    {
      method: 'GET',
      path: '/agent',
      access: 'none',
      query: 'any',
      reads: 'nothing',
      async handle(ctx) {
        sendText(ctx, await read())
      },
    },
    {
      method: 'GET',
      path: '/agent.sha256',
      access: 'none',
      query: 'any',
      reads: 'nothing',
      async handle(ctx) {
        const [, hash] = digestOf(Buffer.from(await read())).split(':')
        sendText(ctx, `${hash}  rookery-agent\n`)
      },
    },
  ]
}

function sendText(ctx: RouteContext, text: string): void {
  const digest = digestOf(Buffer.from(text))
  ctx.set({ ETag: entityTag(digest), 'Cache-Control': 'public, no-cache' })
  if (isNotModified(ctx.headers['if-none-match'], digest)) {
    ctx.status = 304
    return
  }
  ctx.body = text
  ctx.set('Content-Type', 'text/plain; charset=utf-8')
}
