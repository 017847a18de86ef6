import type { Repository } from '../oci/reference.ts'
import { Lines } from './elements.tsx'
import { apiPath } from './paths.ts'

/** Commands that download an image. */
export function PullLines({
  base,
  repository,
  reference,
}: {
  /** The address of the registry, such as `https://registry.example.org`. */
  base: string
  repository: Repository
  /** A tag or a digest. */
  reference: string
}) {
  const host = base.replace(/^https?:\/\//, '')
  const separator = reference.includes(':') ? '@' : ':'
  return (
    <>
      <Lines label="The kernel, with curl">
        {`curl -fLo unikernel "${base}${apiPath(repository, `images/${reference}/kernel`)}"`}
      </Lines>
      <Lines label="Everything, with oras">{`oras pull ${host}/${repository}${separator}${reference}`}</Lines>
    </>
  )
}
