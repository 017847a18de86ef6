import { parseDigest } from '../../oci/digest.ts'
import { parseTag } from '../../oci/reference.ts'
import type { Comparison } from '../../unikernel/compare/images.ts'
import { describeComparison } from '../../unikernel/compare/report.ts'
import { type Command, STATUS } from '../command.ts'
import { printJson, printLines, visible } from '../printing.ts'
import { queryOf, repositoryPath, wantedPlace, withApi } from './registry-api.ts'
import { parseWords } from './registry-commands.ts'
import { LOGIN_OPTIONS, LOGIN_USAGE, parseNamedImage } from './registry-login.ts'

/** `rookery compare`: what is other about an image than about another of its repository. */
export const compareCommand: Command = {
  words: ['compare'],
  usage: `HOST/REPOSITORY:TAG TAG|DIGEST [--target NAME] [--arch NAME] ${LOGIN_USAGE} [--json]`,
  summary: 'Compare two images: kernel, devices, packages, vendored sources, host and environment',
  run(args, environment) {
    const { values, positionals } = parseWords(
      args,
      {
        target: { type: 'string' },
        arch: { type: 'string' },
        json: { type: 'boolean', default: false },
        ...LOGIN_OPTIONS,
      },
      { least: 2, most: 2, expected: 'HOST/REPOSITORY:TAG and another TAG or DIGEST' },
    )
    const [reference = '', text = ''] = positionals
    const named = () => parseNamedImage(reference, values)
    return withApi(named, values, environment, async (api, image) => {
      const other = text.includes(':') ? parseDigest(text) : parseTag(text)
      const { target, arch } = values
      const below = `images/${wantedPlace(image)}/compare/${other}${queryOf({ target, arch })}`
      const found = await api.find(repositoryPath(image, below), 'the comparison')
      if (values.json) printJson(found)
      else printLines(describeComparison(found as Comparison).map(visible))
      return STATUS.ok
    })
  },
}
