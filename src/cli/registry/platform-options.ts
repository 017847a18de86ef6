import type { Child } from '../../oci/manifest.ts'
import { findTarget, TARGETS, type Target } from '../../unikernel/targets.ts'
import { value } from '../command.ts'

/** The options that choose one image of an index. */
export const PLATFORM_OPTIONS = {
  target: value(
    'NAME',
    `unikernel target: ${TARGETS.slice(0, -1).join(', ')} or ${TARGETS.at(-1)}`,
  ),
  arch: value('NAME', 'processor, such as x86_64 or arm64'),
}

/** Finds the target that the platform of an image in an index names. */
export function targetOfChild(platform: Child['platform']): Target | undefined {
  return findTarget(platform?.variant ?? '')
}
