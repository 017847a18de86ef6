import { Ajv2020 } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'

// Made from the SPDX specification 2.3, https://spdx.github.io/spdx-spec/v2.3/, as far as the
// documents use it: its clauses, and patterns for rules that it has only in prose.
const id = { type: 'string', pattern: '^SPDXRef-[A-Za-z0-9.-]+$' }
const line = { type: 'string', minLength: 1, pattern: '^[^\\u0000-\\u001f]+$' }

function object(required: Record<string, unknown>, optional: Record<string, unknown> = {}) {
  return {
    type: 'object',
    properties: { ...required, ...optional },
    required: Object.keys(required),
    additionalProperties: false,
  }
}

const list = (items: object, more: object = {}) => ({ type: 'array', items, ...more })

// 7.10.
const hex = (digits: number) => ({ checksumValue: { pattern: `^[0-9a-f]{${digits}}$` } })
const checksum = {
  ...object({ algorithm: { enum: ['MD5', 'SHA256', 'SHA512'] }, checksumValue: line }),
  allOf: Object.entries({ MD5: 32, SHA256: 64, SHA512: 128 }).map(([algorithm, digits]) => ({
    if: { properties: { algorithm: { const: algorithm } } },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema.
    then: { properties: hex(digits) },
  })),
}

// Annex F.3.5: no blanks.
const reference = object({
  referenceCategory: { const: 'PACKAGE-MANAGER' },
  referenceType: { const: 'purl' },
  referenceLocator: { type: 'string', pattern: '^pkg:[!-~]+$' },
})

// 7.7: a URI, or one of a version control system with its reference.
const LOCATION =
  '^(NONE|NOASSERTION|(https?|ftp)://[!-~]+|(git|hg|svn|bzr)\\+(https?|ssh|git|svn|sftp|file)://[!-~]+)$'
// 7.24, the values in use.
const PURPOSES = ['APPLICATION', 'SOURCE', 'FILE']

const package_ = object(
  {
    SPDXID: id,
    name: line,
    downloadLocation: { type: 'string', pattern: LOCATION },
    // 7.8: otherwise a verification code would be required.
    filesAnalyzed: { const: false },
  },
  {
    versionInfo: line,
    packageFileName: line,
    sourceInfo: line,
    supplier: { const: 'NOASSERTION' },
    primaryPackagePurpose: { enum: PURPOSES },
    checksums: list(checksum, { minItems: 1 }),
    externalRefs: list(reference, { minItems: 1 }),
    comment: line,
  },
)

// 11.1, the values in use.
const RELATIONS = [
  'DESCRIBES',
  'CONTAINS',
  'GENERATED_FROM',
  'DEPENDS_ON',
  'BUILD_DEPENDENCY_OF',
].concat(['BUILD_TOOL_OF', 'METAFILE_OF', 'VARIANT_OF'])

const DOCUMENT = object(
  {
    spdxVersion: { const: 'SPDX-2.3' },
    dataLicense: { const: 'CC0-1.0' },
    SPDXID: { const: 'SPDXRef-DOCUMENT' },
    name: line,
    // 6.5: an absolute URI without a fragment.
    documentNamespace: { type: 'string', format: 'uri', pattern: '^[^#]+$' },
    creationInfo: object({
      created: { type: 'string', pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$' },
      creators: list(
        { type: 'string', pattern: '^(Person|Organization|Tool): .+' },
        { minItems: 1 },
      ),
    }),
    packages: list(package_, { minItems: 1 }),
    relationships: list(
      object({
        spdxElementId: id,
        relationshipType: { enum: RELATIONS },
        relatedSpdxElement: id,
      }),
    ),
  },
  { comment: line },
)

const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false })
formats.default(ajv)
const validate = ajv.compile(DOCUMENT)

/** Lists the violations of a document by the rules of SPDX 2.3. */
export function spdxErrors(document: unknown): string[] {
  if (validate(document)) return []
  return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
}
