import { createUploadUrl, UPLOAD_URL_SECONDS_MAX } from '../../auth/upload-urls.ts'
import { parseNewTag, parseRepository } from '../../oci/reference.ts'
import { argument, command, describeDefault, JSON_OPTION } from '../command.ts'
import { durationOption } from '../durations.ts'
import { STATUS, UsageError } from '../errors.ts'
import { printResult } from '../printing.ts'
import { OPERATOR, withRegistry } from './operator.ts'

/** `rookery upload-url create`: a one-time upload URL for a builder that only has curl. */
export const createCommand = command({
  arguments: { reference: argument('REPOSITORY:TAG', 'tag of the image that the upload creates') },
  options: {
    ttl: describeDefault(durationOption('lifetime of the URL', UPLOAD_URL_SECONDS_MAX), '15m'),
    ...JSON_OPTION,
  },
  examples: [
    ['rookery upload-url create builds/www:v1 --ttl 30m', 'print a URL'],
    [
      'curl --fail-with-body -T www.hvt "$(rookery upload-url create builds/www:v1)/www.hvt"',
      'create a URL and upload a kernel to it',
    ],
  ],
  async run({ reference, ttl: seconds, json }, environment) {
    const [, name = '', tagName = ''] = /^([^:]*):([^:]*)$/.exec(reference) ?? []
    if (name === '' || tagName === '') {
      throw new UsageError('expected a repository and a tag, such as builds/www:v1')
    }
    return withRegistry(environment, async ({ db, baseUrl }) => {
      const repository = parseRepository(name)
      const tag = parseNewTag(tagName)
      const request = { repository, tag, seconds }
      const created = await createUploadUrl(db, request, OPERATOR, baseUrl)
      printResult(json, { ...created, repository, tag }, [created.url])
      return STATUS.ok
    })
  },
})
