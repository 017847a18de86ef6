/** Media types of the OCI image specification, written out here so that a test does not trust `src`. */
export const IMAGE_MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
export const IMAGE_INDEX = 'application/vnd.oci.image.index.v1+json'
export const IMAGE_CONFIG = 'application/vnd.oci.image.config.v1+json'
export const EMPTY_JSON = 'application/vnd.oci.empty.v1+json'

/** Docker's media type of an image manifest, schema 2. */
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
/** Docker's media type of an index. */
export const DOCKER_MANIFEST_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'

export const OCTET_STREAM = 'application/octet-stream'
