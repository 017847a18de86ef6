import { repeated, type Values, value } from '../command.ts'
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
  tagged: value('yes|no', 'images with a tag, or those without'),
  builder: value('NAME', 'credential that pushed the image'),
}
const OPTIONS = { ...PLATFORM_OPTIONS, ...IMAGE_FILTERS }

const TAGGED: Readonly<Record<string, string>> = { yes: 'true', no: 'false' }

/** Returns the query of a filter, with more parameters. Throws UsageError. */
export function imageQuery(
  { target, arch, abi, device, deviceCount, tagged, builder }: Values<typeof OPTIONS>,
  more: Readonly<Record<string, string | undefined>> = {},
): string {
  const isTagged = tagged === undefined ? undefined : TAGGED[tagged]
  if (tagged !== undefined && isTagged === undefined) {
    throw new UsageError('--tagged must be yes or no')
  }
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
  if (isTagged !== undefined) query.append('tagged', isTagged)
  const text = query.toString()
  return text === '' ? '' : `?${text}`
}
