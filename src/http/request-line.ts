import type { IncomingMessage } from 'node:http'
import { badRequest } from '../oci/errors.ts'

// RFC 9110, section 7.2: a host and a port. An empty one is permitted.
const HOST = /^[\w.~!$&'()*+,;=%[\]:-]*$/

/**
 * Refuses a request that a proxy may read in another way than this server: RFC 9112, section 3.2. Node
 * accepts these requests. Throws REQUEST_INVALID.
 */
export function assertUnambiguous(req: IncomingMessage): void {
  const problem = findProblem(req)
  if (problem !== undefined) throw badRequest(problem)
}

function findProblem({ httpVersionMajor, headers, rawHeaders, url }: IncomingMessage) {
  if (httpVersionMajor !== 1) return 'the request line must end with HTTP/1.1'
  let hosts = 0
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]
    if (name?.length === 4 && name.toLowerCase() === 'host') hosts += 1
  }
  if (hosts > 1) return 'the request has two Host headers'
  if (headers.host !== undefined && !HOST.test(headers.host)) return 'the Host header is malformed'
  if (url?.includes('#')) return 'the request target must have no fragment'
  return undefined
}
