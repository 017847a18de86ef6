import { expect } from 'vitest'
import { faultsOf, faultsOfText } from './expect-answer.ts'
import { findOperation, type Operation, partOf, partsOf, WHOLE } from './openapi-document.ts'

/**
 * Checks the query and the body of a successful request against spec/openapi.yaml, so that the document
 * requires nothing unnecessary, and describes everything that works.
 */
export function expectRequest(method: string, target: string, sent: unknown): void {
  const operation = findOperation(method, target)
  if (operation === undefined) throw new Error(`${method} ${target} is not in spec/openapi.yaml`)
  expectQuery(operation, new URL(target, 'http://registry.example').searchParams)
  if (sent === undefined || sent instanceof Blob) return
  const type = sent instanceof FormData ? 'multipart/form-data' : 'application/json'
  const media = partOf(operation.place, 'requestBody', 'content', type)
  if (media === undefined) throw new Error(`${method} ${operation.path} takes no ${type}`)
  const body = sent instanceof FormData ? Object.fromEntries(sent.entries()) : sent
  expect(faultsOf(`${media.pointer}/schema`, body), `${method} ${target}`).toBe('')
}

function expectQuery(operation: Operation, query: URLSearchParams): void {
  const item = partOf(WHOLE, 'paths', operation.path) ?? WHOLE
  const parameters = [...partsOf(item, 'parameters'), ...partsOf(operation.place, 'parameters')]
  for (const [name, value] of query.entries()) {
    const found = parameters.find(([, { node }]) => node.in === 'query' && node.name === name)
    if (found === undefined) throw new Error(`${operation.path} has no parameter ${name}`)
    const schema = partOf(found[1], 'schema')
    // A parameter that may be given several times is a list.
    const one = schema && (partOf(schema, 'items') ?? schema)
    expect(one && faultsOfText(one.pointer, value), `${operation.path} ${name}`).toBe('')
  }
}
