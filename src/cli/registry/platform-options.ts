import { value } from '../command.ts'

/** The options that choose one image of an index. */
export const PLATFORM_OPTIONS = {
  target: value('NAME', 'unikernel target: hvt, spt, virtio, muen, genode or xen'),
  arch: value('NAME', 'processor, such as x86_64 or arm64'),
}
