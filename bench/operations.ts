/** Operations of a registry client: push a blob or an image, list the tags. */
import { type Connection, type HttpRequest, type HttpResponse, header } from './connection.ts'
import { blobContent, type Content, imageContent, MANIFEST_TYPE } from './content.ts'

const PAGES_MAX = 10_000

/** Sends a request, and throws unless the response has the status and, if given, the length. */
export async function expect(
  connection: Connection,
  request: HttpRequest,
  status: number,
  length?: number,
): Promise<HttpResponse> {
  const response = await connection.ask(request)
  if (response.status !== status) {
    throw new Error(
      `${request.method} ${request.target}: ${response.status} instead of ${status} ` +
        response.text.slice(0, 300),
    )
  }
  if (length !== undefined && response.length !== length) {
    const seen = `${response.length} bytes instead of ${length}`
    throw new Error(`${request.method} ${request.target}: ${seen}`)
  }
  return response
}

/** Pushes a blob by POST and one PUT. `headers` has the credentials. */
export async function pushBlob(
  connection: Connection,
  repository: string,
  content: Content,
  headers: string,
): Promise<void> {
  const target = `/v2/${repository}/blobs/uploads/`
  const post = { method: 'POST', target, headers: `${headers}Content-Length: 0\r\n` }
  const started = await expect(connection, post, 202)
  const location = new URL(header(started, 'Location') ?? '', 'http://registry')
  location.searchParams.set('digest', content.digest)
  const put = {
    method: 'PUT',
    target: location.pathname + location.search,
    headers: `${headers}Content-Type: application/octet-stream\r\n`,
    body: content,
  }
  await expect(connection, put, 201)
}

export async function pushManifest(
  connection: Connection,
  repository: string,
  tag: string,
  manifest: Content,
  headers: string,
): Promise<void> {
  const put = {
    method: 'PUT',
    target: `/v2/${repository}/manifests/${tag}`,
    headers: `${headers}Content-Type: ${MANIFEST_TYPE}\r\n`,
    body: manifest,
  }
  await expect(connection, put, 201)
}

/** Deletes a manifest and its tags. */
export async function deleteManifest(
  connection: Connection,
  repository: string,
  digest: string,
  headers: string,
): Promise<void> {
  const target = `/v2/${repository}/manifests/${digest}`
  await expect(connection, { method: 'DELETE', target, headers }, 202)
}

/**
 * Pushes an image in five requests: layer and config by POST and PUT, then the manifest by tag. Returns the digest of the
 * manifest.
 */
export async function pushImage(
  connection: Connection,
  repository: string,
  layerBytes: number,
  mark: Buffer,
  headers: string,
): Promise<string> {
  const layer = blobContent(layerBytes, mark)
  const { config, manifest } = imageContent(layer)
  await pushBlob(connection, repository, layer, headers)
  await pushBlob(connection, repository, config, headers)
  await pushManifest(connection, repository, `t-${mark.toString('hex')}`, manifest, headers)
  return manifest.digest
}

/** Follows the Link headers to the end, and returns the number of pages. Throws unless there were `tags` tags. */
export async function walkTags(
  connection: Connection,
  repository: string,
  pageSize: number,
  tags: number,
): Promise<number> {
  let target: string | undefined = `/v2/${repository}/tags/list?n=${pageSize}`
  let seen = 0
  for (let pages = 1; pages <= PAGES_MAX; pages++) {
    const response: HttpResponse = await expect(
      connection,
      { method: 'GET', target, keepText: true },
      200,
    )
    seen += (JSON.parse(response.text) as { tags: string[] }).tags.length
    const link = /<([^>]*)>/.exec(header(response, 'Link') ?? '')?.[1]
    if (!link) {
      if (seen !== tags) throw new Error(`${seen} tags instead of ${tags}`)
      return pages
    }
    const next: URL = new URL(link, 'http://registry')
    target = next.pathname + next.search
  }
  throw new Error(`more than ${PAGES_MAX} pages of tags`)
}
