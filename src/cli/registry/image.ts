import { argument, command, JSON_OPTION, value } from '../command.ts'
import { STATUS } from '../errors.ts'
import { LIMIT_OPTION, MORE_LINE } from '../numbers.ts'
import { printJson, printLines } from '../printing.ts'
import { queryOf, repositoryPath, withImageApi } from './api-client.ts'
import type { ListedImage } from './api-types.ts'
import { printImages } from './image-table.ts'
import { LOGIN_OPTIONS } from './login-options.ts'
import { PLATFORM_OPTIONS } from './platform-options.ts'

/** `rookery image list`: the unikernels of a repository. */
export const listCommand = command({
  arguments: { repository: argument('HOST/REPOSITORY', 'repository') },
  options: {
    ...PLATFORM_OPTIONS,
    abi: value('N', 'version of the Solo5 ABI'),
    device: value('DEVICE', 'device as KIND, NAME or KIND:NAME, such as net or net:service'),
    builder: value('NAME', 'credential that pushed the image'),
    ...LIMIT_OPTION,
    ...JSON_OPTION,
    ...LOGIN_OPTIONS,
  },
  examples: [
    ['rookery image list registry.example.org/builds/www', 'list all images'],
    [
      'rookery image list registry.example.org/builds/www --target hvt --device net',
      'list those for hvt that have a network device',
    ],
  ],
  run(values, environment) {
    return withImageApi(values.repository, values, environment, async (api, image) => {
      const { target, abi, arch, device, builder, limit, json } = values
      const query = queryOf({ target, abi, arch, device, builder })
      const path = repositoryPath(image, `images${query}`)
      const { items, more } = await api.listUpTo(path, 'images', 'the list of images', limit)
      if (json) printJson({ images: items, more })
      else printImages(items as ListedImage[])
      if (!json && more) printLines([MORE_LINE])
      return STATUS.ok
    })
  },
})
