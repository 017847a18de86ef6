import { flag, repeated, type Values, value } from '../command.ts'
import { UsageError } from '../errors.ts'
import { PLATFORM_OPTIONS } from './platform-options.ts'

/** The options that filter a list of images, besides those of their platform. */
export const IMAGE_FILTERS = {
  abi: repeated('N', 'version of the Solo5 ABI; several: any of them'),
  device: repeated(
    'DEVICE',
    'device as KIND, NAME or KIND:NAME, such as net; several: all of them',
  ),
  deviceCount: value('N', 'number of devices'),
  tagged: flag('only images with a tag'),
  untagged: flag('only images without a tag'),
  builder: value('NAME', 'credential that pushed the image'),
}
const OPTIONS = { ...PLATFORM_OPTIONS, ...IMAGE_FILTERS }

/** Returns the query of a filter, with more parameters. Throws UsageError. */
export function imageQuery(
  { target, arch, abi, device, deviceCount, tagged, untagged, builder }: Values<typeof OPTIONS>,
  more: Readonly<Record<string, string | undefined>> = {},
): string {
  if (tagged && untagged) throw new UsageError('give --tagged or --untagged, not both')
  const query = new URLSearchParams()
  for (const one of abi ?? []) query.append('abi', one)
  for (const one of device ?? []) query.append('device', one)
  for (const [name, text] of Object.entries({
    target,
    arch,
    'device-count': deviceCount,
    builder,
    ...more,
  })) {
    if (text !== undefined) query.append(name, text)
  }
  if (tagged || untagged) query.append('tagged', String(tagged === true))
  const text = query.toString()
  return text === '' ? '' : `?${text}`
}
