import { type Blobs, readStart } from '../../registry/blobs.ts'
import { renderMarkdown } from '../../web/markdown.ts'
import type { ReadmeText } from '../../web/readme.tsx'

/** Reads the first bytes of a README for a page. `path`: where the whole file is. Throws BLOB_UNKNOWN when it is lost. */
export async function readReadme(
  blobs: Blobs,
  readme: Parameters<Blobs['open']>[0] | null,
  path: string,
  bytesMax: number,
): Promise<ReadmeText | undefined> {
  if (readme === null) return undefined
  const blob = blobs.open(readme)
  const markdown = await readStart(blob, bytesMax)
  return { html: renderMarkdown(markdown), path, isWhole: blob.size <= bytesMax }
}
