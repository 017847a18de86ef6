import { TARGETS as SOLO5_TARGETS } from './kernel/solo5-notes.ts'

/** The targets whose kernels have no Solo5 notes, as `mirage configure --target` names them. */
export const OTHER_TARGETS = ['unikraft-firecracker', 'unikraft-qemu', 'unix', 'macosx'] as const

/** All targets. A kernel for one of Solo5's shows its target by its notes; of the others it is declared. */
export const TARGETS = [...SOLO5_TARGETS, ...OTHER_TARGETS] as const
export type Target = (typeof TARGETS)[number]

/** The same targets, as other tools name them. */
const SYNONYMS: Readonly<Record<string, Target>> = {
  firecracker: 'unikraft-firecracker',
  qemu: 'unikraft-qemu',
  macos: 'macosx',
}
/** All names that a target is declared or selected by. */
export const TARGET_NAMES: readonly string[] = [...TARGETS, ...Object.keys(SYNONYMS)]

/** The endings of kernels' names that name a target. Unix programs have none. */
const ENDINGS: Readonly<Record<string, Target>> = {
  fc: 'unikraft-firecracker',
  firecracker: 'unikraft-firecracker',
  qemu: 'unikraft-qemu',
  macosx: 'macosx',
  unix: 'unix',
}

/** Finds a target by its name or by a synonym of it. */
export function findTarget(name: string): Target | undefined {
  const exact = TARGETS.find((one) => one === name)
  return exact ?? (Object.hasOwn(SYNONYMS, name) ? SYNONYMS[name] : undefined)
}

/** Finds the target that the ending of a kernel's name declares, such as `.fc`. */
export function findTargetOfTitle(title: string | undefined): Target | undefined {
  const ending = title === undefined ? '' : title.slice(title.lastIndexOf('.') + 1)
  if (ending === title) return undefined
  if (Object.hasOwn(ENDINGS, ending)) return ENDINGS[ending]
  return SOLO5_TARGETS.find((one) => one === ending)
}

/** True for a target whose kernels have Solo5 notes. */
export function isSolo5Target(target: string): boolean {
  return SOLO5_TARGETS.some((one) => one === target)
}
