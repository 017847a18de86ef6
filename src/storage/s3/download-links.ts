import type { S3Client } from '@aws-sdk/client-s3'
import { call, type S3Settings } from './client.ts'
import { type Credentials, presign } from './presign.ts'

/** Long enough for a slow client to begin, and for one that resumes to ask again. */
const LINK_SECONDS = 900

/** Makes links to objects, with the credentials that the client has at that moment. */
export class DownloadLinks {
  readonly #client: S3Client
  readonly #settings: S3Settings
  #bucketUrl: { url: URL; region: string } | undefined

  constructor(client: S3Client, settings: S3Settings) {
    this.#client = client
    this.#settings = settings
  }

  /** Throws StoreUnavailableError when the credentials cannot be had. */
  async link(objectKey: string): Promise<string> {
    this.#bucketUrl ??= await this.#findBucketUrl()
    const { url: base, region } = this.#bucketUrl
    const url = new URL(base)
    // Keys are of letters, digits, dots, dashes and slashes; a prefix may hold anything.
    const path = objectKey.split('/').map(encodeURIComponent).join('/')
    url.pathname = `${base.pathname.replace(/\/$/, '')}/${path}`
    return presign({
      url,
      region,
      credentials: await this.#credentials(),
      seconds: LINK_SECONDS,
      now: new Date(),
      parameters: { 'response-content-type': 'application/octet-stream' },
    })
  }

  // They may come over the network, and are kept by the SDK until they run out.
  #credentials(): Promise<Credentials> {
    return call(this.#settings.timeoutSeconds, () => this.#client.config.credentials())
  }

  /** Where the bucket is, by the SDK's own rules of endpoints and styles. */
  async #findBucketUrl(): Promise<{ url: URL; region: string }> {
    const region = await this.#client.config.region()
    const endpoint = this.#settings.publicEndpoint ?? this.#settings.endpoint
    const { url } = this.#client.config.endpointProvider({
      Bucket: this.#settings.bucket,
      Region: region,
      ForcePathStyle: this.#settings.pathStyle,
      UseFIPS: false,
      UseDualStack: false,
      Accelerate: false,
      UseGlobalEndpoint: false,
      DisableMultiRegionAccessPoints: false,
      ...(endpoint === undefined ? {} : { Endpoint: endpoint }),
    })
    return { url, region }
  }
}
