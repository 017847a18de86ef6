import { readFileSync } from 'node:fs'
import { digestOf } from '../../oci/digest.ts'
import { entityTag, isNotModified } from '../preconditions.ts'
import type { Route, RouteContext } from '../route.ts'
import { setPageHeaders } from './page-headers.ts'

const FOLDER = new URL('../../../assets/', import.meta.url)
const CACHED_SECONDS = 365 * 86_400
const VERSION_CHARACTERS = 16

type Asset = {
  readonly name: string
  readonly type: string
  readonly text: string
  readonly digest: string
}

function readAsset(name: string, type: string): Asset {
  const text = readFileSync(new URL(name, FOLDER), 'utf8')
  return { name, type, text, digest: digestOf(Buffer.from(text)) }
}

const STYLE = readAsset('style.css', 'text/css')
const SCRIPT = readAsset('script.js', 'text/javascript')

/** The style sheet and the script. Their paths change with their bytes, so that a browser keeps each for ever. */
export const ASSETS = { style: linkOf(STYLE), script: linkOf(SCRIPT) }

function linkOf(asset: Asset) {
  const [algorithm = '', hex = ''] = asset.digest.split(':')
  const integrity = `${algorithm}-${Buffer.from(hex, 'hex').toString('base64')}`
  return { path: pathOf(asset), integrity }
}

function pathOf({ name, digest }: Asset): string {
  const [, hex = ''] = digest.split(':')
  return `/assets/${name}?v=${hex.slice(0, VERSION_CHARACTERS)}`
}

/** Serves the style sheet and the script of pages. */
export function assetRoutes(): Route[] {
  return [STYLE, SCRIPT].map((asset) => ({
    method: 'GET',
    path: `/assets/${asset.name}`,
    page: true,
    access: 'none',
    query: 'any',
    reads: 'nothing',
    handle(ctx) {
      sendAsset(ctx, asset)
    },
  }))
}

function sendAsset(ctx: RouteContext, asset: Asset): void {
  setPageHeaders(ctx)
  const isNamed = pathOf(asset).endsWith(`?${ctx.querystring}`)
  ctx.set({
    ETag: entityTag(asset.digest),
    'Cache-Control': isNamed ? `public, max-age=${CACHED_SECONDS}, immutable` : 'public, no-cache',
  })
  if (isNotModified(ctx.headers['if-none-match'], asset.digest)) {
    ctx.status = 304
    return
  }
  ctx.body = asset.text
  ctx.set('Content-Type', `${asset.type}; charset=utf-8`)
}
