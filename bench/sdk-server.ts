/**
 * A minimal registry on the AWS SDK alone, for the least cost of a push and a pull. It supports the
 * requests of load.ts, checks no digest and no credential, and keeps no state.
 *   node --import tsx bench/sdk-server.ts ENDPOINT BUCKET signed|unsigned
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3'

const PART_BYTES = 8 * 1024 * 1024
const PARTS_IN_FLIGHT_MAX = 4
/** The number of reusable buffers: as many as eight concurrent uploads use. */
const SPARE_BUFFERS_MAX = 8 * (PARTS_IN_FLIGHT_MAX + 1)

const [endpoint = '', Bucket = '', bodies = 'signed'] = process.argv.slice(2)

const client = new S3Client({
  endpoint,
  region: 'us-east-1',
  forcePathStyle: true,
  requestChecksumCalculation: 'WHEN_REQUIRED',
  responseChecksumValidation: 'WHEN_REQUIRED',
  requestHandler: { httpAgent: { keepAlive: true, maxSockets: 64 } },
})
if (bodies === 'unsigned') {
  client.middlewareStack.add(
    (next) => (args) => {
      const { headers } = args.request as { headers: Record<string, string> }
      headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD'
      return next(args)
    },
    { step: 'build', name: 'unsignedPayload' },
  )
}

const spare: Buffer[] = []

/** Fills buffers of one part each; the last one may be shorter. */
async function* cutParts(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let part = spare.pop() ?? Buffer.allocUnsafeSlow(PART_BYTES)
  let filled = 0
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; ) {
      const copied = chunk.copy(part, filled, at)
      at += copied
      filled += copied
      if (filled < PART_BYTES) continue
      yield part
      part = spare.pop() ?? Buffer.allocUnsafeSlow(PART_BYTES)
      filled = 0
    }
  }
  if (filled > 0) yield part.subarray(0, filled)
}

function recycle(part: Buffer): void {
  // The whole buffer, of which a part may be a shorter view.
  if (spare.length < SPARE_BUFFERS_MAX) spare.push(Buffer.from(part.buffer, 0, PART_BYTES))
}

async function putParts(Key: string, source: AsyncIterable<Buffer>): Promise<void> {
  const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key }))
  const flying = new Set<Promise<void>>()
  const Parts: { PartNumber: number; ETag: string | undefined }[] = []
  const send = async (PartNumber: number, Body: Buffer) => {
    const input = { Bucket, Key, UploadId, PartNumber, Body, ContentLength: Body.length }
    const { ETag } = await client.send(new UploadPartCommand(input))
    Parts[PartNumber - 1] = { PartNumber, ETag }
    recycle(Body)
  }
  let number = 0
  for await (const part of cutParts(source)) {
    const flight: Promise<void> = send(++number, part).finally(() => flying.delete(flight))
    flying.add(flight)
    // Fills the next buffer only when one of the four parts is sent.
    if (flying.size >= PARTS_IN_FLIGHT_MAX) await Promise.race(flying)
  }
  await Promise.all(flying)
  const MultipartUpload = { Parts }
  await client.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload }))
}

async function putWhole(Key: string, length: number, source: AsyncIterable<Buffer>): Promise<void> {
  const Body = Buffer.allocUnsafeSlow(length)
  let filled = 0
  for await (const chunk of source) filled += chunk.copy(Body, filled)
  if (filled !== length) throw new Error(`${filled} bytes instead of ${length}`)
  await client.send(new PutObjectCommand({ Bucket, Key, Body }))
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://registry')
  const end = (status: number, headers = {}) =>
    response.writeHead(status, { 'Content-Length': 0, ...headers }).end()
  if (request.method === 'POST') {
    request.resume()
    end(202, { Location: `${pathname}1` })
  } else if (request.method === 'PUT') {
    const key = searchParams.get('digest') ?? ''
    const length = Number(request.headers['content-length'])
    if (length < PART_BYTES) await putWhole(key, length, request)
    else await putParts(key, request)
    end(201, { Location: `/v2/blobs/${key}` })
  } else if (pathname.includes('/blobs/')) {
    const Key = pathname.slice(pathname.lastIndexOf('/') + 1)
    const { Body, ContentLength } = await client.send(new GetObjectCommand({ Bucket, Key }))
    response.writeHead(200, { 'Content-Length': ContentLength })
    await pipeline(Body as Readable, response)
  } else {
    end(pathname === '/v2/' ? 200 : 404)
  }
}

const server = createServer((request, response) => {
  answer(request, response).catch((error: Error) => {
    console.error(error.message)
    if (response.headersSent) response.destroy()
    else response.writeHead(500, { Connection: 'close' }).end(error.message)
  })
})
server.listen(0, '127.0.0.1')
await once(server, 'listening')
console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
