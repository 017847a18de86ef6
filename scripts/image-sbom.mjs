// The bill of materials of the image: a CycloneDX document of the packages of npm, and of the base where it is known.
import fs from 'node:fs'
import { join } from 'node:path'

const SPEC_VERSION = '1.6'
const NPM_NAME = /^(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)$/
const INTEGRITY = /^sha512-(\S+)$/

const hexOf = (base64) => Buffer.from(base64, 'base64').toString('hex')
const byReference = (one, other) => (one['bom-ref'] < other['bom-ref'] ? -1 : 1)

/**
 * Returns the document as text. `folder` has the installed package, `created` is a time in ISO 8601, and `base` what is known of the
 * base: `node`, its version, and `packages`, the text of dpkg's status. The same input gives the same bytes.
 */
export function sbomOf(folder, created, base) {
  const { name, version, description, license } = readJson(join(folder, 'package.json'))
  const installed = readJson(join(folder, 'node_modules/.package-lock.json')).packages
  const components = [
    ...Object.entries(installed).map(npmComponent),
    ...(base?.node === undefined ? [] : [nodeComponent(base.node)]),
    ...debianComponents(base?.packages ?? ''),
  ]
  const unique = new Map(components.map((one) => [one['bom-ref'], one]))
  const image = {
    ...{ type: 'container', 'bom-ref': `${name}@${version}`, name, version, description },
    licenses: [{ expression: license }],
  }
  const document = {
    ...{ bomFormat: 'CycloneDX', specVersion: SPEC_VERSION, version: 1 },
    metadata: { timestamp: created, component: image },
    components: [...unique.values()].sort(byReference),
  }
  return `${JSON.stringify(document, undefined, 2)}\n`
}

const readJson = (path) => JSON.parse(fs.readFileSync(path, 'utf8'))

/** A row of npm's lock file. */
function npmComponent([path, { version, license, integrity }]) {
  const [, name] = NPM_NAME.exec(path)
  const [, digest] = INTEGRITY.exec(integrity ?? '') ?? []
  const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`
  return {
    ...{ type: 'library', 'bom-ref': purl, name, version, purl },
    ...(digest === undefined ? {} : { hashes: [{ alg: 'SHA-512', content: hexOf(digest) }] }),
    ...(license === undefined ? {} : { licenses: [{ expression: license }] }),
  }
}

function nodeComponent(version) {
  const purl = `pkg:generic/node@${version}`
  return { type: 'application', 'bom-ref': purl, name: 'node', version, purl }
}

/** The installed packages of dpkg's status: paragraphs of `Field: value`, apart from an empty line. */
function debianComponents(status) {
  return status.split('\n\n').flatMap((paragraph) => {
    const field = (name) => new RegExp(`^${name}: (.+)$`, 'm').exec(paragraph)?.[1]
    const [name, version] = [field('Package'), field('Version')]
    if (name === undefined || version === undefined || !/ installed$/.test(field('Status')))
      return []
    const at = `${encodeURIComponent(version)}?arch=${field('Architecture')}`
    const purl = `pkg:deb/debian/${encodeURIComponent(name)}@${at}`
    return [{ type: 'library', 'bom-ref': purl, name, version, purl }]
  })
}
