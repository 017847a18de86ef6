import type { S3Client } from '@aws-sdk/client-s3'
import { call, type S3Settings } from './client.ts'
import { type Credentials, presign } from './presign.ts'

/** Long enough for a slow client to begin. A client that resumes requests another link. */
const LINK_SECONDS = 900

/** Makes presigned links to objects, with the current credentials of the client. */
export class DownloadLinks {
  readonly #client: S3Client
  readonly #settings: S3Settings
  #bucketUrl: { url: URL; region: string } | undefined

  constructor(client: S3Client, settings: S3Settings) {
    this.#client = client
    this.#settings = settings
  }

  /** Returns a link. Throws StoreUnavailableError when the credentials cannot be loaded. */
  async link(objectKey: string): Promise<string> {
    this.#bucketUrl ??= await this.#findBucketUrl()
    const { url: base, region } = this.#bucketUrl
    const url = new URL(base)
    // Keys consist of letters, digits, dots, dashes and slashes; a prefix may contain anything.
    const path = objectKey.split('/').map(encodeURIComponent).join('/')
    url.pathname = `${base.pathname.replace(/\/$/, '')}/${path}`
    return presign({
      url,
      region,
      credentials: await this.#credentials(),
      seconds: LINK_SECONDS,
      now: new Date(),
      // A browser saves the object: it neither runs nor shows it on the store's origin.
      parameters: {
        'response-content-disposition': 'attachment',
        'response-content-type': 'application/octet-stream',
      },
    })
  }

  // The SDK may load them over the network, and caches them until they expire.
  #credentials(): Promise<Credentials> {
    return call(this.#settings.timeoutSeconds, () => this.#client.config.credentials())
  }

  /** Finds the bucket's URL by the SDK's own rules of endpoints and styles. */
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
