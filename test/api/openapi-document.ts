import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import { ROOT } from '../house/tree.ts'

export type Node = Readonly<Record<string, unknown>>

/** A part of the document, and its JSON Pointer (RFC 6901). */
export type Place = { readonly node: Node; readonly pointer: string }

/** One method of one path. */
export type Operation = {
  readonly method: string
  /** In OpenAPI's notation, such as `/api/v1/credentials/{name}`. */
  readonly path: string
  readonly place: Place
}

export const DOCUMENT = nodeOf(parse(readFileSync(join(ROOT, 'spec/openapi.yaml'), 'utf8')))
export const WHOLE: Place = { node: DOCUMENT, pointer: '' }
const METHODS = ['get', 'head', 'post', 'put', 'patch', 'delete']

/** Returns the value if it is an object, and throws otherwise. */
export function nodeOf(value: unknown): Node {
  if (typeof value === 'object' && value !== null) return value as Node
  throw new Error(`expected an object, not ${JSON.stringify(value)}`)
}

/** Returns the part under these names, with references resolved; undefined if it does not exist. */
export function partOf(place: Place, ...names: readonly string[]): Place | undefined {
  let { node, pointer } = followed(place)
  for (const name of names) {
    if (node[name] === undefined) return undefined
    const part = { node: nodeOf(node[name]), pointer: `${pointer}/${escaped(name)}` }
    ;({ node, pointer } = followed(part))
  }
  return { node, pointer }
}

/** Returns the parts of a map by name, with references resolved. */
export function partsOf(place: Place, ...names: readonly string[]): [string, Place][] {
  const map = partOf(place, ...names)
  return Object.keys(map?.node ?? {}).flatMap((name): [string, Place][] => {
    const part = map && partOf(map, name)
    return part === undefined ? [] : [[name, part]]
  })
}

function followed(place: Place): Place {
  const { $ref } = place.node
  if (typeof $ref !== 'string') return place
  const names = $ref.split('/').slice(1).map(unescaped)
  const target = partOf(WHOLE, ...names)
  if (target === undefined)
    throw new Error(`${place.pointer} refers to ${$ref}, which does not exist`)
  return target
}

const escaped = (name: string) => name.replaceAll('~', '~0').replaceAll('/', '~1')
const unescaped = (name: string) => name.replaceAll('~1', '/').replaceAll('~0', '~')

/** All operations of the document. */
export const OPERATIONS: readonly Operation[] = partsOf(WHOLE, 'paths').flatMap(([path, item]) =>
  partsOf(item)
    .filter(([name]) => METHODS.includes(name))
    .map(([name, place]) => ({ method: name.toUpperCase(), path, place })),
)

/** Finds the operation of a request, by its path with or without a query. */
export function findOperation(method: string, target: string): Operation | undefined {
  const { pathname } = new URL(target, 'http://registry.example')
  return PATTERNS.find(
    ({ operation, pattern }) => operation.method === method && pattern.test(pathname),
  )?.operation
}

// Literal paths before parameters: /policies/test is not a policy.
const PATTERNS = OPERATIONS.map((operation) => ({ operation, pattern: patternOf(operation.path) }))
  .map((one) => ({ ...one, letters: one.operation.path.replace(/\{\w+\}/g, '').length }))
  .toSorted((a, b) => b.letters - a.letters)

function patternOf(path: string): RegExp {
  const expression = path
    .replace('{repository}', '.+')
    .replace('{file}', '[^/]*')
    .replace(/\{\w+\}/g, '[^/]+')
  return new RegExp(`^${expression}$`)
}
