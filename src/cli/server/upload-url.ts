import { createUploadUrl, UPLOAD_URL_SECONDS_MAX } from '../../auth/upload-urls.ts'
import { parseRepository, parseTag } from '../../oci/reference.ts'
import { type Command, parseArguments, STATUS, UsageError } from '../command.ts'
import { parseDuration } from '../durations.ts'
import { printJson, printLines } from '../printing.ts'
import { OPERATOR, publicBaseUrl, withRegistry } from './operator.ts'

/** `rookery upload-url create`: a URL for a builder that can only `curl -T`. */
export const uploadUrlCommand: Command = {
  words: ['upload-url', 'create'],
  usage: 'REPOSITORY:TAG [--ttl 15m] [--json]',
  summary: 'Print a URL that accepts one file from curl -T, once, for that tag',
  async run(args, environment) {
    const { values, positionals } = parseArguments(
      args,
      { ttl: { type: 'string' }, json: { type: 'boolean', default: false } },
      ['REPOSITORY:TAG'],
    )
    const [, name = '', tagName = ''] = /^([^:]*):([^:]*)$/.exec(positionals[0] ?? '') ?? []
    if (name === '' || tagName === '') {
      throw new UsageError('expected a repository and a tag, such as builds/www:v1')
    }
    const seconds =
      values.ttl === undefined
        ? undefined
        : parseDuration('ttl', values.ttl, UPLOAD_URL_SECONDS_MAX)
    return withRegistry(environment, async ({ db }, config) => {
      const repository = parseRepository(name)
      const tag = parseTag(tagName)
      const request = { repository, tag, seconds }
      const created = await createUploadUrl(db, request, OPERATOR, publicBaseUrl(config))
      if (values.json) printJson({ ...created, repository, tag })
      else printLines([created.url])
      return STATUS.ok
    })
  },
}
