import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { digestOf } from '../support/digest.ts'
import { IMAGE_MANIFEST } from '../support/media-types.ts'

export type Descriptor = {
  mediaType: string
  digest: string
  size: number
  annotations?: Record<string, string>
}

/** An image layout on disk, as the OCI image specification defines it. */
export class OciLayout {
  readonly folder: string

  private constructor(folder: string) {
    this.folder = folder
  }

  static async create(folder: string): Promise<OciLayout> {
    await mkdir(join(folder, 'blobs/sha256'), { recursive: true })
    await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
    return new OciLayout(folder)
  }

  /** Writes a blob or a manifest. */
  async keep(content: Buffer | string | object, mediaType: string): Promise<Descriptor> {
    const bytes =
      typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content)
    const digest = digestOf(bytes)
    await writeFile(join(this.folder, 'blobs/sha256', digest.slice(7)), bytes)
    return { mediaType, digest, size: Buffer.byteLength(bytes) }
  }

  /** Writes an image manifest. */
  keepManifest(fields: object): Promise<Descriptor> {
    return this.keep({ schemaVersion: 2, mediaType: IMAGE_MANIFEST, ...fields }, IMAGE_MANIFEST)
  }

  /** Gives a manifest the tag. The layout has this one tag. */
  async tag(manifest: Descriptor, tag: string): Promise<void> {
    const annotations = { 'org.opencontainers.image.ref.name': tag }
    const index = { schemaVersion: 2, manifests: [{ ...manifest, annotations }] }
    await writeFile(join(this.folder, 'index.json'), JSON.stringify(index))
  }
}
